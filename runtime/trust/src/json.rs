//! JSON that only one reading has.
//!
//! containerd is written in Go, whose JSON reader takes the last of two equal keys and matches field names without
//! regard to case. Bytes that mean one image to containerd and another to the judge must not exist: equal keys are a
//! flaw anywhere, and a key that Go would take for a field that we read is a flaw where we read that field.

use std::{cell::Cell, collections::BTreeMap, fmt};

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// Most values in one document: what bounds the judge's memory, for 8 MiB of `[[],[],…` are 90 MB of values.
pub(crate) const VALUES_MAX: usize = 200_000;

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonFlaw {
    /// serde_json's words, which quote no contents but keys.
    #[error("is no JSON that can be accepted: {0}")]
    Syntax(String),
    /// `Layers` beside or instead of `layers`.
    #[error("key {found:?} could be taken for {wanted:?}")]
    Ambiguous {
        /// The field.
        wanted: &'static str,
        /// The key.
        found: String,
    },
    /// A field that must be there.
    #[error("has no {0:?}")]
    Missing(&'static str),
    /// A field of another type.
    #[error("{field:?} is not {wanted}")]
    Type {
        /// The field.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

/// A JSON value without equal keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Scalar(String),
    Count(u64),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// A JSON object without equal keys.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Object(BTreeMap<String, Json>);

/// Reads one document whose top is an object.
pub(crate) fn parse(bytes: &[u8]) -> Result<Object, JsonFlaw> {
    let values_left = Cell::new(VALUES_MAX);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let syntax = |error: serde_json::Error| JsonFlaw::Syntax(error.to_string().chars().take(200).collect());
    let json = Value(&values_left).deserialize(&mut reader).map_err(syntax)?;
    reader.end().map_err(syntax)?;
    match json {
        Json::Object(object) => Ok(object),
        _ => Err(JsonFlaw::Type { field: "document", wanted: "an object" }),
    }
}

impl Object {
    /// The field, unless it is absent or null, which Go reads alike.
    pub(crate) fn optional(&self, name: &'static str) -> Result<Option<&Json>, JsonFlaw> {
        for key in self.0.keys() {
            if key != name && fold(key) == fold(name) {
                let found = key.chars().take(80).collect();
                return Err(JsonFlaw::Ambiguous { wanted: name, found });
            }
        }
        Ok(self.0.get(name).filter(|value| **value != Json::Null))
    }

    pub(crate) fn object(&self, name: &'static str) -> Result<Option<&Object>, JsonFlaw> {
        match self.optional(name)? {
            None => Ok(None),
            Some(Json::Object(object)) => Ok(Some(object)),
            Some(_) => Err(JsonFlaw::Type { field: name, wanted: "an object" }),
        }
    }

    pub(crate) fn list(&self, name: &'static str) -> Result<Option<&[Json]>, JsonFlaw> {
        match self.optional(name)? {
            None => Ok(None),
            Some(Json::List(list)) => Ok(Some(list)),
            Some(_) => Err(JsonFlaw::Type { field: name, wanted: "a list" }),
        }
    }

    /// The text, empty where there is none: Go reads both alike.
    pub(crate) fn text(&self, name: &'static str) -> Result<&str, JsonFlaw> {
        match self.optional(name)? {
            None => Ok(""),
            Some(Json::Text(text)) => Ok(text),
            Some(_) => Err(JsonFlaw::Type { field: name, wanted: "a string" }),
        }
    }

    pub(crate) fn count(&self, name: &'static str) -> Result<u64, JsonFlaw> {
        match self.optional(name)? {
            None => Err(JsonFlaw::Missing(name)),
            Some(Json::Count(count)) => Ok(*count),
            Some(_) => Err(JsonFlaw::Type { field: name, wanted: "a count" }),
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The objects of a list.
pub(crate) fn objects<'a>(
    list: &'a [Json],
    field: &'static str,
) -> impl Iterator<Item = Result<&'a Object, JsonFlaw>> {
    list.iter().map(move |value| match value {
        Json::Object(object) => Ok(object),
        _ => Err(JsonFlaw::Type { field, wanted: "a list of objects" }),
    })
}

/// A key as Go's reader compares it: without case, and with the two letters that fold into ASCII.
///
/// Source: `foldName`, Go encoding/json/fold.go; U+017F and U+212A fold to `s` and `k`.
fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// Builds one value, counting.
struct Value<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: de::Deserializer<'de>>(self, reader: D) -> Result<Json, D::Error> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| {
            <D::Error as de::Error>::custom(format_args!("more than {VALUES_MAX} values in one document"))
        })?;
        self.0.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Count(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(Value(self.0))? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(Value(self.0))?;
            if map.insert(key, value).is_some() {
                return Err(de::Error::custom("two equal keys in one object"));
            }
        }
        Ok(Json::Object(Object(map)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn fields_are_read_and_null_is_absent() {
        let object = parse(br#"{"a": "x", "n": 3, "l": [{}], "z": null}"#).unwrap();
        assert_eq!(object.text("a"), Ok("x"));
        assert_eq!(object.count("n"), Ok(3));
        assert_eq!(object.list("l").unwrap().unwrap().len(), 1);
        assert_eq!(object.optional("z"), Ok(None));
        assert_eq!(object.text("absent"), Ok(""));
    }

    #[test]
    fn equal_keys_at_any_depth_are_a_flaw() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#] {
            assert!(matches!(parse(text.as_bytes()), Err(JsonFlaw::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn keys_that_go_would_take_for_the_field_are_a_flaw() {
        for key in ["Layers", "LAYERS", "layer\u{17f}"] {
            let object = parse(format!(r#"{{"{key}":[], "layers":[]}}"#).as_bytes()).unwrap();
            assert!(matches!(object.list("layers"), Err(JsonFlaw::Ambiguous { .. })), "{key}");
            let object = parse(format!(r#"{{"{key}":[]}}"#).as_bytes()).unwrap();
            assert!(matches!(object.list("layers"), Err(JsonFlaw::Ambiguous { .. })), "{key} alone");
        }
        assert!(parse(br#"{"layers2":[],"layers":[]}"#).unwrap().list("layers").is_ok());
    }

    #[test]
    fn rest_after_the_document_wrong_tops_and_bad_utf8_are_flaws() {
        for text in [&b"{} {}"[..], b"[]", b"", b"\"x\"", b"{\"a\":\"\xff\"}", b"{,}", b"{\"a\":01}"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(b" {} \n").is_ok());
    }

    #[test]
    fn depth_and_number_of_values_are_limited() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(parse(deep.as_bytes()).is_err());
        let wide = |n: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(n));
        assert!(parse(wide(VALUES_MAX - 3).as_bytes()).is_ok());
        assert!(parse(wide(VALUES_MAX - 2).as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(parse(&bytes));
        }
    }
}
