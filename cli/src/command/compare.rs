//! `tristill compare`: systems that answered the same questions, question by question.

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Result, bail};
use eval::{Comparison, Questions, SetTable, compare as compare_said, compare_choices};

use crate::{
    arguments::CompareArguments,
    progress::print,
    run::{read_set, set_name},
    system::System,
};

pub fn compare(arguments: &CompareArguments) -> Result<()> {
    let first = System::find(&arguments.one)?;
    let set = arguments.set.as_ref().map(|path| SetTable::new(set_name(path), path.clone()));
    let mut compared = Vec::new();
    for other in &arguments.others {
        compared.extend(between(&first, &System::find(other)?, set.as_ref())?);
    }
    if arguments.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&compared)?));
    }
    compared.iter().try_for_each(|comparison| print(&format!("{comparison}\n\n")))
}

/// The systems that a run is held against, each before the run itself.
pub fn against(run: &System, others: &[PathBuf]) -> Result<Vec<Comparison>> {
    let mut compared = Vec::new();
    for other in others {
        compared.extend(between(&System::find(other)?, run, None)?);
    }
    Ok(compared)
}

/// The questions that a run was asked under a set's name, by their ids: another run may have had others under this name. None for a system
/// that does not say.
fn asked(system: &System, set: &SetTable) -> Result<Option<HashMap<String, String>>> {
    let own = system.sets()?.into_iter().flatten().find(|own| own.name == set.name && own.path != set.path && own.path.exists());
    let Some(own) = own else { return Ok(None) };
    Ok(Some(read_set(&own)?.into_problems().into_iter().map(|problem| (problem.id, problem.question)).collect()))
}

/// Two systems on every set that both answered, or on the given one.
fn between(first: &System, second: &System, set: Option<&SetTable>) -> Result<Vec<Comparison>> {
    let sets = match set {
        Some(set) => vec![set.clone()],
        None => match (first.sets()?, second.sets()?) {
            (Some(sets), _) | (None, Some(sets)) => sets,
            (None, None) => {
                bail!("neither {} nor {} is the folder of a run, which knows its sets; --set FILE is needed", first.name, second.name)
            }
        },
    };
    let mut compared = Vec::new();
    for set in &sets {
        let asked = [asked(first, set)?, asked(second, set)?];
        let by_both = |id: &str, question: &str| asked.iter().flatten().all(|asked| asked.get(id).is_some_and(|same| same == question));
        match read_set(set)? {
            Questions::Numbers(mut problems) => {
                problems.retain(|problem| by_both(&problem.id, &problem.question));
                let said = |system: &System| system.said(&set.name, &problems);
                if let (Some(one), Some(two)) = (said(first)?, said(second)?) {
                    let one = eval::System { name: &first.name, completions: &one.completions };
                    let two = eval::System { name: &second.name, completions: &two.completions };
                    match compare_said(&set.name, &problems, one, two) {
                        Err(eval::Error::NothingShared { .. }) => {}
                        found => compared.push(found?),
                    }
                }
            }
            Questions::Choices(mut choices) => {
                choices.retain(|choice| by_both(&choice.id, &choice.question));
                if let (Some(one), Some(two)) = (first.likelihoods(&set.name)?, second.likelihoods(&set.name)?) {
                    match compare_choices(&set.name, &choices, (&first.name, &one), (&second.name, &two)) {
                        Err(eval::Error::NothingShared { .. }) => {}
                        found => compared.extend(found?),
                    }
                }
            }
        }
    }
    if compared.is_empty() {
        let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
        bail!(
            "{} and {} have no questions in common that both answered; looked in {}, and answers lie under the name of a set",
            first.name,
            second.name,
            names.join(", ")
        );
    }
    Ok(compared)
}
