//! How this crate says no.

use bulkhead_model::{Refusal, Rule};

/// A refusal of `field` of config.json.
pub(crate) fn refuse(
    rule: Rule,
    field: &str,
    found: impl std::fmt::Display,
    why: &str,
    fix: &str,
) -> Refusal {
    Refusal::new(rule, format!("{field} asks for {}", short(&found.to_string())), why, fix)
}

/// A refusal of a part of config.json that is never applied.
pub(crate) fn refuse_unsupported(field: &str) -> Refusal {
    Refusal::new(
        Rule::Spec,
        format!("{field} is set"),
        "bulkhead does not apply it, and what is asked for is not left out silently",
        "leave it out of the request",
    )
}

/// At most 200 characters of attacker's text.
pub(crate) fn short(text: &str) -> String {
    if text.chars().count() <= 200 {
        return text.to_owned();
    }
    text.chars().take(199).chain(['…']).collect()
}

/// Refuses a value that is there and not empty.
pub(crate) fn absent<T: PartialEq + Default>(field: &str, value: &Option<T>) -> Result<(), Refusal> {
    match value {
        None => Ok(()),
        Some(value) if *value == T::default() => Ok(()),
        Some(_) => Err(refuse_unsupported(field)),
    }
}

/// Refuses whatever `rest` still holds after every known part was taken out of it: `blank` is the JSON of nothing.
///
/// The fields of oci-spec's types are private, so a struct cannot be destructured. This asks the same
/// question at run time: a field that this crate does not know is refused instead of ignored.
pub(crate) fn nothing_left<T>(section: &str, rest: &T, blank: &str) -> Result<(), Refusal>
where
    T: PartialEq + serde::de::DeserializeOwned,
{
    match serde_json::from_str::<T>(blank) {
        Ok(blank) if blank == *rest => Ok(()),
        Ok(_) | Err(_) => {
            Err(refuse_unsupported(&format!("a field of {section} that bulkhead does not know")))
        }
    }
}
