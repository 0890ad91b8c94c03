//! Medians as a picture: a dot each on a logarithmic axis, on a line from the tenth to the ninetieth of a hundred.
#![forbid(unsafe_code)]

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::table::{Row, quantile};
use crate::Result;

const WIDTH: u32 = 900;
const ROW: u32 = 26;
/// A title, an axis and its name.
const AROUND: u32 = 96;
const LABELS: u32 = 290;
const INK: RGBColor = RGBColor(40, 40, 40);
const DOT: RGBColor = RGBColor(40, 90, 180);

/// One comparison.
#[derive(Debug)]
pub struct Chart {
    pub title: String,
    pub rows: Vec<Row>,
}

/// Writes `charts` as one SVG picture, one below the other.
///
/// # Errors
/// When the file cannot be written.
pub fn write(file: &Path, charts: &[Chart]) -> Result<()> {
    let heights: Vec<u32> = charts.iter().map(|chart| AROUND + ROW * chart.rows.len() as u32).collect();
    let picture = SVGBackend::new(file, (WIDTH, heights.iter().sum())).into_drawing_area();
    picture.fill(&WHITE)?;
    let mut rest = picture.clone();
    for (chart, height) in charts.iter().zip(heights) {
        let (area, below) = rest.split_vertically(height);
        draw(&area, chart)?;
        rest = below;
    }
    Ok(picture.present()?)
}

fn draw(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, chart: &Chart) -> Result<()> {
    let text = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let times = || chart.rows.iter().flat_map(|row| [quantile(&row.times, 0.1), quantile(&row.times, 0.9)]);
    let low = times().fold(f64::MAX, f64::min) * 0.7;
    let high = times().fold(0.0, f64::max) * 1.6;
    let rows = chart.rows.len();
    let mut frame = ChartBuilder::on(area)
        .caption(&chart.title, text(17))
        .margin(10)
        .margin_left(LABELS)
        .x_label_area_size(38)
        .build_cartesian_2d((low..high).log_scale(), 0.0..rows as f64)?;
    frame
        .configure_mesh()
        .disable_y_axis()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("milliseconds, logarithmic")
        .label_style(text(12))
        .x_label_formatter(&|time| format!("{time}"))
        .draw()?;
    let plane = frame.plotting_area();
    for (number, row) in chart.rows.iter().enumerate() {
        // The first row is drawn on top.
        let middle = (rows - number) as f64 - 0.5;
        let median = row.median();
        let spread = [(quantile(&row.times, 0.1), middle), (quantile(&row.times, 0.9), middle)];
        plane.draw(&PathElement::new(spread, DOT.stroke_width(2)))?;
        plane.draw(&Circle::new((median, middle), 5, DOT.filled()))?;
        let (_, y) = plane.map_coordinate(&(low, middle));
        let (left, _) = plane.get_base_pixel();
        let (top_left, top) = area.get_base_pixel();
        let label = format!("{}   {median:.2} ms", row.name);
        let at = (left - top_left - 8, y - top);
        let style = text(13).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(label, at, style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_row_is_in_the_picture() {
        let file = std::env::temp_dir().join(format!("cellkit-plot-{}.svg", std::process::id()));
        let row = |name: &str, ms: u64| Row { name: name.into(), times: vec![Duration::from_millis(ms); 3] };
        let chart = Chart { title: "starts".into(), rows: vec![row("floor", 2), row("others", 90)] };
        write(&file, &[chart]).expect("drawn");
        let text = std::fs::read_to_string(&file).expect("written");
        std::fs::remove_file(&file).expect("removed");
        for expected in ["starts", "floor   2.00 ms", "others   90.00 ms"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
