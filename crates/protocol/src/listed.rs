//! Lists of what iterators give, in a third of the code that `collect` and `extend` make for each type.

/// [`Iterator::collect`] into a `Vec`, for where no room need be reserved ahead.
pub trait Listed: Iterator + Sized {
    fn listed(self) -> Vec<Self::Item> {
        let mut all = Vec::new();
        all.add_all(self);
        all
    }

    /// All values, or the first error.
    fn listed_ok<T, E>(self) -> Result<Vec<T>, E>
    where
        Self: Iterator<Item = Result<T, E>>,
    {
        let mut all = Vec::new();
        for item in self {
            all.push(item?);
        }
        Ok(all)
    }
}

impl<I: Iterator> Listed for I {}

/// [`Extend`], as [`Listed`] is `collect`.
pub trait AddAll<T> {
    fn add_all(&mut self, items: impl IntoIterator<Item = T>);
}

impl<T> AddAll<T> for Vec<T> {
    fn add_all(&mut self, items: impl IntoIterator<Item = T>) {
        items.into_iter().for_each(|item| self.push(item));
    }
}
