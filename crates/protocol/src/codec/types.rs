//! The JSON of the types that others are made of.

use super::{FromJson, Reader, ToJson, whole, write_number, write_string};
use crate::{Map, Set};

impl<T: ToJson + ?Sized> ToJson for &T {
    fn write(&self, out: &mut String) {
        (**self).write(out);
    }
    fn is_blank(&self) -> bool {
        (**self).is_blank()
    }
}
impl ToJson for str {
    fn write(&self, out: &mut String) {
        write_string(out, self);
    }
}
impl ToJson for String {
    fn write(&self, out: &mut String) {
        write_string(out, self);
    }
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}
impl FromJson for String {
    fn blank() -> Self {
        Self::new()
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        from.string().map(|text| *self = text.into_owned()).is_some()
    }
}

impl ToJson for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
    fn is_blank(&self) -> bool {
        !*self
    }
}
impl FromJson for bool {
    fn blank() -> Self {
        false
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        *self = from.word("true");
        *self || from.word("false")
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl ToJson for $type {
            fn write(&self, out: &mut String) {
                write_number(out, *self as u64);
            }
            fn is_blank(&self) -> bool {
                *self == 0
            }
        }
        impl FromJson for $type {
            fn blank() -> Self {
                0
            }
            fn fill(&mut self, from: &mut Reader<'_>) -> bool {
                from.number().and_then(|number| number.try_into().ok()).map(|number| *self = number).is_some()
            }
        }
    )*};
}
numbers!(u64, u32, usize);

impl FromJson for i32 {
    fn blank() -> Self {
        0
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        let Some(text) = from.raw() else { return false };
        let (size, sign) = match text.strip_prefix('-') {
            Some(size) if size != "0" => (size, -1),
            _ => (text, 1),
        };
        let number = whole(size).and_then(|number| i64::try_from(number).ok());
        number.and_then(|number| i32::try_from(number * sign).ok()).map(|number| *self = number).is_some()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
    fn is_blank(&self) -> bool {
        self.is_none()
    }
}
impl<T: FromJson> FromJson for Option<T> {
    fn blank() -> Self {
        None
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        if from.word("null") {
            *self = None;
            return true;
        }
        self.insert(T::blank()).fill(from)
    }
}

fn write_list<'a, T: ToJson + 'a>(out: &mut String, items: impl Iterator<Item = &'a T>) {
    let mut mark = '[';
    for item in items {
        out.push(mark);
        mark = ',';
        item.write(out);
    }
    if mark == '[' {
        out.push(mark);
    }
    out.push(']');
}

impl<T: ToJson> ToJson for Vec<T> {
    fn write(&self, out: &mut String) {
        write_list(out, self.iter());
    }
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}
impl<T: FromJson> FromJson for Vec<T> {
    fn blank() -> Self {
        Self::new()
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        from.list(&mut |from| {
            let mut item = T::blank();
            let read = item.fill(from);
            self.push(item);
            read
        })
    }
}
impl<T: ToJson> ToJson for Set<T> {
    fn write(&self, out: &mut String) {
        write_list(out, self.iter());
    }
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<A: ToJson, B: ToJson> ToJson for (A, B) {
    fn write(&self, out: &mut String) {
        out.push('[');
        self.0.write(out);
        out.push(',');
        self.1.write(out);
        out.push(']');
    }
}
impl<A: FromJson, B: FromJson> FromJson for (A, B) {
    fn blank() -> Self {
        (A::blank(), B::blank())
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        fill_pair(from, &mut self.0, &mut self.1)
    }
}

/// A list of two.
pub fn fill_pair(from: &mut Reader<'_>, first: &mut dyn FromJson, second: &mut dyn FromJson) -> bool {
    let mut count = 0;
    let read = from.list(&mut |from| {
        count += 1;
        match count {
            1 => first.fill(from),
            2 => second.fill(from),
            _ => false,
        }
    });
    read && count == 2
}

/// Can be read from a key of a JSON object.
pub trait FromKey: Ord + Sized {
    fn from_key(text: &str) -> Option<Self>;
}

/// Can be written as a key of a JSON object.
pub trait ToKey {
    /// Writes the key with its quotes.
    fn write_key(&self, out: &mut String);
}

impl FromKey for String {
    fn from_key(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}
impl ToKey for String {
    fn write_key(&self, out: &mut String) {
        write_string(out, self);
    }
}
impl ToKey for &str {
    fn write_key(&self, out: &mut String) {
        write_string(out, self);
    }
}

impl<K: ToKey, V: ToJson> ToJson for Map<K, V> {
    fn write(&self, out: &mut String) {
        let mut mark = '{';
        for (key, value) in self {
            out.push(mark);
            mark = ',';
            key.write_key(out);
            out.push(':');
            value.write(out);
        }
        if mark == '{' {
            out.push(mark);
        }
        out.push('}');
    }
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}
impl<K: FromKey, V: FromJson> FromJson for Map<K, V> {
    fn blank() -> Self {
        Self::new()
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        from.object(&mut |key, from| {
            let Some(key) = K::from_key(key) else { return false };
            let mut value = V::blank();
            let read = value.fill(from);
            self.insert(key, value);
            read
        })
    }
}
