//! The one walk that all of the algebra is made of: what two sorted lists of ranges share.
#![forbid(unsafe_code)]

use crate::IdRange;

/// What the ranges of `left` and `right` have in common, lowest first, with the items they come from. Each list is
/// sorted by its ranges, none of which overlap. O(n + m): each step leaves one item behind for good.
pub(super) fn meet<'a, L: Copy, R: Copy>(
    left: &'a [L],
    left_range: impl Fn(L) -> IdRange + 'a,
    right: &'a [R],
    right_range: impl Fn(R) -> IdRange + 'a,
) -> impl Iterator<Item = (L, R, IdRange)> + 'a {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let (&&one, &&other) = (left.peek()?, right.peek()?);
            let (a, b) = (left_range(one), right_range(other));
            // The one that ends first can meet nothing that comes later.
            if a.end() <= b.end() {
                left.next();
            } else {
                right.next();
            }
            if let Some(shared) = IdRange::between(a.start().max(b.start()), a.end().min(b.end())) {
                return Some((one, other, shared));
            }
        }
    })
}
