//! `tristill distill`: the whole run. Each stage is skipped where its files are there already, so that the same command goes on
//! after any stop.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use eval::report::{Packing, Report, Speed, Stage};
use trainer::{Exported, Totals, metrics::Line};

use crate::{
    arguments::ConfigArguments,
    command::{
        bench,
        eval::{Exam, describe},
        export::export,
        ingest::ingest_parts,
        report,
        synth::synth,
        train::{Part, check_at_hand, train_parts},
    },
    hold::{Makes, begin},
    progress::{print, say},
    run::Run,
};

/// What is done before the training and after it, in order.
const BEFORE: [&str; 3] = ["synth", "ingest", "annotate"];
const AFTER: [&str; 2] = ["export", "eval"];

pub fn distill(arguments: &ConfigArguments) -> Result<()> {
    let run = Run::open(arguments)?;
    check_at_hand(&run)?;
    let _held = begin(&run, Makes::Data)?;
    say(&format!("       run {} in {}", run.name, run.folder.display()));
    synth(&run)?;
    ingest_parts(&run)?;
    let parts = train_parts(&run, arguments)?;
    let checkpoint = &parts.last().expect("a run has a part").trained.checkpoint;
    let exported = run.timed("export", || export(checkpoint, &run.student(), &run.name))?;
    let mut facts = facts(&run, arguments, &parts, &exported)?;
    run.timed("eval", || score(&run, &mut facts))?;
    facts.stages = stages(&run, &parts)?;
    facts.wall_s = facts.stages.iter().map(|stage| stage.wall_s).sum();
    report::keep_comparisons(&run.folder, &mut facts);
    facts.write(&run.report())?;
    report::write(&run.folder)?;
    print(&summary(&run, &facts))?;
    Ok(())
}

/// The seconds of everything that was done, with the last loss of each training.
fn stages(run: &Run, parts: &[Part]) -> Result<Vec<Stage>> {
    let mut seconds = run.seconds()?;
    for part in parts.iter().filter(|_| run.has_stages()) {
        for (name, wall_s) in part.run.seconds()? {
            *seconds.entry(name).or_default() += wall_s;
        }
    }
    let timed = |name: &&str| Some(Stage { name: (*name).to_owned(), wall_s: *seconds.get(*name)?, loss: None });
    let trained = parts.iter().map(|Part { run: part, trained, .. }| {
        let name = if run.has_stages() { format!("train {}", part.name) } else { "train".to_owned() };
        let loss = trainer::metrics::lines::<Line>(&part.folder)?.last().map(|line| line.loss);
        Ok(Stage { name, wall_s: trained.totals.wall_s, loss })
    });
    let trained = trained.collect::<Result<Vec<_>>>()?;
    Ok(BEFORE.iter().filter_map(timed).chain(trained).chain(AFTER.iter().filter_map(timed)).collect())
}

/// What is known before the student is asked anything.
fn facts(run: &Run, arguments: &ConfigArguments, parts: &[Part], exported: &Exported) -> Result<Report> {
    let Part { run: last, dataset, trained } = parts.last().expect("a run has a part");
    let manifest = dataset.manifest();
    let model = last.config.model.resolve(manifest.vocab)?;
    let of_all = |of: fn(&Totals) -> f64| parts.iter().map(|part| of(&part.trained.totals)).sum::<f64>();
    let path = |path: std::path::PathBuf| path.display().to_string();
    Ok(Report {
        run: run.name.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        student: describe(&model),
        parameters: model.parameters() as u64,
        packed_bytes: exported.packed_bytes,
        f16_bytes: exported.f16_bytes,
        train_tokens_per_s: Some(of_all(|totals| totals.tokens as f64) / of_all(|totals| totals.wall_s)),
        files: BTreeMap::from([
            ("packed student".to_owned(), path(run.student())),
            ("checkpoint".to_owned(), path(trained.checkpoint.clone())),
            ("dataset".to_owned(), path(last.dataset())),
            ("report".to_owned(), path(run.report())),
            ("page".to_owned(), path(run.folder.join(report::PAGE))),
        ]),
        commands: vec![arguments.command("distill")],
        config: serde_json::to_value(&run.config).context("cannot write the config as JSON")?,
        packing: Some(Packing {
            traces: manifest.documents,
            rows: manifest.rows,
            context: manifest.context,
            tokens: manifest.tokens,
            supervised_tokens: manifest.supervised_tokens,
        }),
        dataset: serde_json::to_value(dataset.card()?).context("cannot write the dataset's card as JSON")?,
        ..Report::default()
    })
}

/// Ask the packed student every set, and measure how fast it writes.
fn score(run: &Run, facts: &mut Report) -> Result<()> {
    let mut exam = Exam::open(&run.student(), &run.config.eval)?;
    facts.student_hash = Some(exam.hash.clone());
    let sets = run.sets()?;
    // A run has one student, so that what another one said is of a training that it has left behind.
    exam.set_aside(&sets, &run.folder)?;
    facts.eval_tokens_per_s = exam.sit_all(&sets, &run.folder, facts)?;
    let speed = bench::measure(exam.engine.student(), exam.engine.threads())?;
    facts.prefill_tokens_per_s = Some(speed.prefill_tokens_per_s);
    facts.decode_tokens_per_s = Some(speed.decode_tokens_per_s);
    let twin = |quant| -> Result<Option<Speed>> {
        let measured = bench::measure_twin(exam.engine.student(), quant, exam.engine.threads())?;
        Ok(measured.map(|speed| Speed { decode_tokens_per_s: speed.decode_tokens_per_s, prefill_tokens_per_s: speed.prefill_tokens_per_s }))
    };
    facts.full_precision_speed = twin(model::Quant::None)?;
    facts.eight_bit_speed = twin(model::Quant::Int8)?;
    facts.machine = exam.machine();
    Ok(())
}

fn summary(run: &Run, facts: &Report) -> String {
    let mut text = format!("\n{}: {} weights, {}\n", run.name, facts.parameters, facts.student);
    for (set, score) in &facts.eval {
        let interval = format!("95 % interval {:.1} to {:.1}", 100.0 * score.low, 100.0 * score.high);
        text += &format!("  {set:10} {:.1} % of {} problems right ({interval})\n", 100.0 * score.accuracy, score.n);
    }
    for (set, score) in &facts.choices {
        let shares = [&score.letters, &score.texts, &score.texts_by_length].map(|share| 100.0 * share.accuracy);
        let [letters, texts, by_length] = shares;
        text += &format!(
            "  {set:10} {letters:.1} % of {} right by letter, {texts:.1} % by text, {by_length:.1} % by text per character, guessing {:.1} %\n",
            score.n,
            100.0 * score.chance
        );
    }
    text += &format!(
        "  size       {} bytes, {:.1} times smaller than f16 ({} bytes)\n",
        facts.packed_bytes,
        facts.times_smaller(),
        facts.f16_bytes
    );
    let speed = |speed: Option<f64>| speed.map_or("not measured".to_owned(), |speed| format!("{speed:.0} tokens/s"));
    text +=
        &format!("  decode     {}, {} threads, kernel {}\n", speed(facts.decode_tokens_per_s), facts.machine.threads, facts.machine.kernel);
    text += &format!("  training   {}, the whole run {:.0} s\n", speed(facts.train_tokens_per_s), facts.wall_s);
    for (what, path) in &facts.files {
        text += &format!("  {what:14} {path}\n");
    }
    text + &format!("\nTalk with it: tristill chat {}\n", run.student().display())
}
