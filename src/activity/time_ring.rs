//! Values of the last so many equal pieces of time. A piece that nothing was put into costs nothing.

use std::time::Duration;

/// The values of the last pieces of time, the present one included.
#[derive(Debug)]
pub(super) struct TimeRing<T> {
    piece: Duration,
    /// By number modulo its length, with the number that each was made for.
    pieces: Vec<Option<(u64, T)>>,
}

impl<T: Default> TimeRing<T> {
    /// Keeps `count` complete pieces of this length, and the present one.
    pub(super) fn new(piece: Duration, count: usize) -> Self {
        Self { piece, pieces: std::iter::repeat_with(|| None).take(count + 1).collect() }
    }

    /// The number of the piece that a time since the start lies in.
    pub(super) fn number(&self, elapsed: Duration) -> u64 {
        (elapsed.as_millis() / self.piece.as_millis()) as u64
    }

    /// The value of the present piece.
    pub(super) fn present(&mut self, elapsed: Duration) -> &mut T {
        let number = self.number(elapsed);
        let index = (number % self.pieces.len() as u64) as usize;
        let kept = self.pieces[index].take().filter(|(made_for, _)| *made_for == number);
        &mut self.pieces[index].insert(kept.unwrap_or_else(|| (number, T::default()))).1
    }

    /// The value of the piece with this number; `None`: nothing was put into it, or it is too old.
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let piece = &self.pieces[(number % self.pieces.len() as u64) as usize];
        piece.as_ref().filter(|(made_for, _)| *made_for == number).map(|(_, value)| value)
    }

    /// The values of the last `count` pieces, the present one included, the oldest first.
    pub(super) fn last(&self, elapsed: Duration, count: usize) -> impl Iterator<Item = &T> {
        let end = self.number(elapsed) + 1;
        (end.saturating_sub(count as u64)..end).filter_map(|number| self.get(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_pieces_are_forgotten() {
        let second = Duration::from_secs;
        let mut ring = TimeRing::<u32>::new(second(10), 3);
        for at in [1, 9, 15, 41] {
            *ring.present(second(at)) += 1;
        }
        let last = |ring: &TimeRing<u32>, at, count| -> Vec<u32> {
            ring.last(second(at), count).copied().collect()
        };
        assert_eq!(last(&ring, 41, 4), [1, 1], "of 10 to 20, and of 40 to 50");
        assert_eq!(last(&ring, 41, 9), [1, 1], "that of 0 to 10 was overwritten");
        assert_eq!(last(&ring, 41, 1), [1]);
        assert_eq!(last(&ring, 500, 4), [0; 0]);
        assert_eq!(ring.get(4), Some(&1));
        *ring.present(second(80)) += 1;
        assert_eq!(ring.get(4), None);
    }
}
