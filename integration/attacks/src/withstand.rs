//! withstand.toml: which technique or test stands for each attack that is to be withstood, or why none does.

use std::{fs, path::Path};

use bulkhead_integration::workspace;
use libtest_mimic::{Failed, Trial};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    attack: Vec<Attack>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attack {
    what: String,
    #[serde(default)]
    techniques: Vec<String>,
    #[serde(default)]
    tests: Vec<String>,
    why: Option<String>,
}

/// A test: what the list names is there.
pub(crate) fn trial() -> Trial {
    Trial::test("every_attack_that_is_to_be_withstood_is_tried_or_says_why_not", || {
        let here = workspace().join("integration/attacks");
        let list: List = toml::from_str(&fs::read_to_string(here.join("withstand.toml"))?)?;
        for attack in &list.attack {
            check(attack, &here)?;
        }
        Ok(())
    })
}

fn check(attack: &Attack, here: &Path) -> Result<(), Failed> {
    let Attack { what, techniques, tests, why } = attack;
    if techniques.is_empty() && tests.is_empty() && why.is_none() {
        return Err(format!("{what}: neither tried nor a reason").into());
    }
    let is_technique = |name: &String| {
        ["inside/src/techniques", "src/outside"]
            .iter()
            .any(|dir| here.join(dir).join(format!("{name}.rs")).exists())
    };
    if let Some(missing) = techniques.iter().find(|name| !is_technique(name)) {
        return Err(format!("{what}: no technique {missing}").into());
    }
    for test in tests {
        let (suite, name) = test.split_once("::").ok_or_else(|| format!("{what}: {test} names no suite"))?;
        let text = fs::read_to_string(here.join(format!("../tests/{suite}.rs")))?;
        if !text.contains(&format!("fn {name}()")) {
            return Err(format!("{what}: no test {test}").into());
        }
    }
    Ok(())
}
