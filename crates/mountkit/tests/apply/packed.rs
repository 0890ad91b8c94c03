//! Gzip, zstd, digests, and what is torn or damaged.

use std::io::{Read, Write};

use mountkit::ErrorKind;
use mountkit::layers::{Compression, Digest, Limits};

use crate::tar::{archive, dir, file, symlink};
use crate::{Ground, as_i_may, tree};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).expect("packed")
}

/// `sha256sum`, which is not the code under test.
fn sha256sum(bytes: &[u8]) -> Digest {
    let ground = faultkit::TempDir::new();
    std::fs::write(ground.join("blob"), bytes).expect("write");
    let text = crate::run("sha256sum", &["blob"], &ground);
    format!("sha256:{}", &text[..64]).parse().expect("a digest")
}

fn layer() -> Vec<u8> {
    let noise: Vec<u8> = (0..60_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    archive([dir("d"), file("d/noise", &noise), file("zeros", vec![0; 100_000]), symlink("l", "d/noise")])
}

/// One byte at a time, with a signal now and then.
struct Slow<'a>(&'a [u8], u32);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 += 1;
        if self.1 % 100 == 0 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(7);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn packed_or_not_it_is_the_same() {
    let plain = layer();
    let ground = Ground::new();
    ground.apply_as_i_may(&plain).expect("applied");
    let wanted = tree::listing(&ground.layer());
    let diff_id = sha256sum(&plain);
    let (half, rest) = plain.split_at(plain.len() / 2);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(&plain)].concat();
    for (packed, compression) in [
        (plain.clone(), Compression::None),
        (gzip(&plain), Compression::Gzip),
        (zstd(&plain), Compression::Zstd),
        // Several members and frames are one stream.
        ([gzip(half), gzip(rest)].concat(), Compression::Gzip),
        ([zstd(half), zstd(b""), zstd(rest)].concat(), Compression::Zstd),
        (skippable, Compression::Zstd),
    ] {
        let ground = Ground::new();
        let digest = sha256sum(&packed);
        let apply = as_i_may().expect(digest).expect_diff_id(diff_id);
        let root = mountkit::RootFd::open(ground.layer()).expect("open");
        let applied = apply.apply(Slow(&packed, 0), &root).expect("applied");
        assert_eq!((applied.compression, applied.digest, applied.diff_id), (compression, digest, diff_id));
        assert_eq!((applied.size, applied.unpacked), (packed.len() as u64, plain.len() as u64));
        assert_eq!(applied.entries, 4);
        assert_eq!(tree::listing(&ground.layer()), wanted);
    }
}

#[test]
fn another_layer_than_was_asked_for() {
    let packed = gzip(&layer());
    let other = Digest::sha256_of(b"another");
    let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().expect("a digest");
    for apply in [as_i_may().expect(other), as_i_may().expect_diff_id(other), as_i_may().expect(sha512)] {
        let error = Ground::new().apply(&apply, &packed).expect_err("another");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("was asked for"), "{error:#}");
    }
    // A good layer with one bit more at its end has another digest, and is noticed before that.
    let longer = [&packed[..], b"\0"].concat();
    assert!(Ground::new().apply_as_i_may(&longer).is_err());
}

#[test]
fn torn_at_many_places() {
    let plain = layer();
    for packed in [plain.clone(), gzip(&plain), zstd(&plain)] {
        // Zeros at the end of a plain archive are only for filling up.
        let ends = if packed == plain { plain.len() - 1024 } else { packed.len() - 1 };
        let lengths = (0..ends).step_by(ends / 41).chain([1, 2, 3, 17, ends]);
        for length in lengths {
            let ground = Ground::new();
            let error = ground.apply_as_i_may(&packed[..length]).expect_err("torn");
            assert_eq!(error.kind(), ErrorKind::Parse, "{length}: {error:#}");
        }
    }
}

#[test]
fn damaged_bytes_never_do_more_than_fail() {
    let plain = layer();
    for packed in [gzip(&plain), zstd(&plain)] {
        for at in (0..packed.len()).step_by(packed.len() / 37) {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x55;
            let ground = Ground::new();
            let apply = as_i_may().expect_diff_id(Digest::sha256_of(&plain));
            if let Err(error) = ground.apply(&apply, &damaged) {
                assert!(matches!(error.kind(), ErrorKind::Parse | ErrorKind::Invalid | ErrorKind::Limit), "{error:#}");
            }
            ground.outside_is_untouched();
        }
    }
}

#[test]
fn what_follows_is_an_error() {
    let plain = layer();
    for packed in [gzip(&plain), zstd(&plain)] {
        let more = [&packed[..], b"something else, and rather long"].concat();
        let error = Ground::new().apply_as_i_may(&more).expect_err("more");
        assert_eq!(error.kind(), ErrorKind::Parse, "{error:#}");
    }
}

#[test]
fn bombs() {
    // Many zeros in a few kilobytes.
    let zeros = std::iter::repeat_n(vec![0_u8; 1 << 20], 8);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    let mut zst = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("an encoder");
    let header = file("a", "").size(8 << 20).header();
    gz.write_all(&header).expect("written");
    zst.write_all(&header).expect("written");
    for block in zeros {
        gz.write_all(&block).expect("written");
        zst.write_all(&block).expect("written");
    }
    for bomb in [gz.finish().expect("finished"), zst.finish().expect("finished")] {
        let ground = Ground::new();
        let apply = as_i_may().limits(Limits::new().bytes(1 << 20));
        let error = ground.apply(&apply, &bomb).expect_err("a bomb");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error:#}");
        assert!(tree::paths(&ground.layer()).is_empty(), "nothing of it was made");
    }
    // A window of 64 MiB.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(26).expect("a window");
    encoder.write_all(&layer()).expect("written");
    let wide = encoder.finish().expect("finished");
    let error = Ground::new().apply_as_i_may(&wide).expect_err("too wide");
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:#}");
    assert!(error.hint().is_some_and(|hint| hint.contains("window")));
    let apply = as_i_may().limits(Limits::new().window(64 << 20));
    Ground::new().apply(&apply, &wide).expect("as wide as allowed");
}

/// A reader that fails after so many bytes: a header, and zeros for its content.
struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const WHOLE: usize = 1 << 20;
        if self.0 >= WHOLE {
            return Err(std::io::Error::from_raw_os_error(libc::ECONNRESET));
        }
        let mut stream = file("a", "").size(1 << 30).header().to_vec();
        stream.resize(WHOLE, 0);
        let read = { &stream[self.0..] }.read(buffer)?;
        self.0 += read;
        Ok(read)
    }
}

#[test]
fn an_error_of_the_reader_is_the_answer() {
    let ground = Ground::new();
    let root = mountkit::RootFd::open(ground.layer()).expect("open");
    let error = as_i_may().apply(Broken(0), &root).expect_err("broken");
    assert_eq!((error.operation(), error.raw_os_error()), ("read", Some(libc::ECONNRESET)), "{error:#}");
}
