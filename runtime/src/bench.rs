//! How fast a student reads and writes on this machine, and how fast the machine could at most.
//!
//! The forward pass is driven directly with tokens that are fixed beforehand, so that no answer ends early and nothing but the
//! student's own work is timed.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Draft, Error, Student,
    cache::{Cache, Pages},
    draft::Drafter,
    engine::ROWS,
    kernel::{Bandwidth, Isa, PAGE, Pool},
    network::{Needed, Row, Work},
    sampler::likeliest,
};

/// Tokens of the prompt, unless the context is shorter.
pub const PROMPT: usize = 128;
/// Tokens of the answer, unless the context is shorter.
const ANSWER: usize = 64;
/// Sequences of a batch, and tokens of each.
const BATCH: usize = 16;
const BATCH_ANSWER: usize = 8;
/// Each figure is the median of so many, or of as many as fit into the budget, after one that does not count.
const TIMES: usize = 5;
const BUDGET: Duration = Duration::from_secs(20);
/// More need not be read to know the bandwidth; less fits in a cache, as the student then does.
const MOST_BYTES: usize = 1 << 30;

/// How fast a student is.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    /// Threads that computed.
    pub threads: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of a prompt a second.
    pub prefill_tokens_per_s: f64,
    /// Tokens of one greedy answer a second, as an engine gives them.
    pub decode_tokens_per_s: f64,
    /// Tokens of 16 answers together a second.
    pub batch_tokens_per_s: f64,
    /// Bytes of weights that are read for each token of an answer.
    pub bytes_per_token: usize,
    /// Bytes of weights that were read a second while decoding, as a share of what as many threads read when they do nothing else, in the
    /// fastest of several ways: the median of shares, each of an answer and of what was read right before and after it, because a shared
    /// machine's bandwidth changes within seconds.
    pub bandwidth_share: f64,
    /// The instruction set of the kernels.
    pub isa: Isa,
}

/// Seconds from a student, opened, to its first token after a prompt of one: threads, memory for keys and values, and one forward pass.
pub fn first_token(student: &Student, threads: usize) -> Result<f64, Error> {
    let started = Instant::now();
    let mut cache = Cache::new(student.config(), 1, false);
    let pages = take(&mut cache, 1);
    let mut work = Work::new(Isa::detect()?, threads)?;
    let row = Row { token: 0, position: 0, sequence: 0, wants_logits: true };
    black_box(likeliest(student.network.forward(&mut cache, (&[row], Needed::Largest), &|_| &pages, &mut work)));
    Ok(started.elapsed().as_secs_f64())
}

/// Measure with a prompt of [`PROMPT`] tokens. The environment variable `TRISTILL_ISA` may name the instruction set.
pub fn measure(student: &Arc<Student>, threads: usize) -> Result<Speed, Error> {
    measure_prompt(student, threads, PROMPT)
}

/// As [`measure`] with a prompt of another length; one that the context cannot hold together with an answer is shortened.
pub fn measure_prompt(student: &Arc<Student>, threads: usize, prompt: usize) -> Result<Speed, Error> {
    let isa = Isa::detect()?;
    let (config, network) = (student.config(), &student.network);
    let answer = ANSWER.min(config.context / 2);
    let prompt = prompt.clamp(1, config.context - answer);
    let mut cache = Cache::new(config, prompt + answer, false);
    let pages = take(&mut cache, prompt + answer);
    let mut work = Work::new(isa, threads)?;
    let tokens: Vec<u32> = (0..prompt).map(|at| (at * 7 % config.vocab) as u32).collect();

    let bytes_per_token = network.bytes_per_token();
    let pool = Pool::new(threads);
    let bandwidth = Bandwidth::new(isa, &pool, bytes_per_token.min(MOST_BYTES));
    let (mut prefill, mut decode, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    for _ in 0..=TIMES {
        let started = Instant::now();
        let mut token = 0;
        for start in (0..prompt).step_by(ROWS) {
            let row = |position| Row { token: tokens[position], position, sequence: 0, wants_logits: position + 1 == prompt };
            let rows: Vec<Row> = (start..prompt.min(start + ROWS)).map(row).collect();
            token = likeliest(network.forward(&mut cache, (&rows, Needed::Largest), &|_| &pages, &mut work));
        }
        prefill.push(prompt as f64 / started.elapsed().as_secs_f64());
        let before = bandwidth.bytes_per_s(isa, &pool);
        let started = Instant::now();
        let mut position = prompt;
        while position < prompt + answer {
            let mut rows = vec![Row { token, position, sequence: 0, wants_logits: true }];
            let mut last = rows[0];
            let next = &mut |logits: &mut [f32]| {
                last = Row { token: likeliest(logits), position: last.position + 1, ..last };
                Some(last)
            };
            let logits =
                network.run_ahead(&mut cache, (&mut rows, prompt + answer - position, Needed::Largest), &|_| &pages, &mut work, next);
            let right = |(place, logits): &(usize, &[f32])| rows.get(place + 1).is_some_and(|row| row.token == likeliest(logits));
            let right = logits.chunks_exact(config.vocab).enumerate().take_while(right).count();
            (token, position) = (likeliest(&logits[right * config.vocab..][..config.vocab]), position + right + 1);
        }
        black_box(token);
        let speed = answer as f64 / started.elapsed().as_secs_f64();
        decode.push(speed);
        let limit = (before + bandwidth.bytes_per_s(isa, &pool)) / 2.0;
        shares.push(speed * bytes_per_token as f64 / limit);
        if prefill.len() > 1 && begun.elapsed() > BUDGET {
            break;
        }
    }
    Ok(Speed {
        threads: work.threads(),
        prompt,
        prefill_tokens_per_s: median(&mut prefill[1..]),
        decode_tokens_per_s: median(&mut decode[1..]),
        batch_tokens_per_s: batch(student, &mut work),
        bytes_per_token,
        bandwidth_share: median(&mut shares[1..]),
        isa,
    })
}

/// Tokens of several answers a second, each from the start of a text.
fn batch(student: &Student, work: &mut Work) -> f64 {
    let (config, answer) = (student.config(), BATCH_ANSWER.min(student.config().context));
    let mut cache = Cache::new(config, BATCH * Cache::pages_for(answer) * PAGE, false);
    let pages: Vec<Pages> = (0..BATCH).map(|_| take(&mut cache, answer)).collect();
    let (mut speeds, begun) = (Vec::new(), Instant::now());
    for _ in 0..=TIMES {
        let started = Instant::now();
        for position in 0..answer {
            let token = |sequence: usize| ((sequence * 31 + position * 7) % config.vocab) as u32;
            let rows: Vec<Row> =
                (0..BATCH).map(|sequence| Row { token: token(sequence), position, sequence, wants_logits: true }).collect();
            black_box(student.network.forward(&mut cache, (&rows, Needed::Largest), &|sequence| &pages[sequence], work));
        }
        speeds.push((BATCH * answer) as f64 / started.elapsed().as_secs_f64());
        if speeds.len() > 1 && begun.elapsed() > BUDGET {
            break;
        }
    }
    median(&mut speeds[1..])
}

/// How guessing ahead does on a text: the tokens a second with it, without it, and how many tokens a step brought.
#[derive(Clone, Debug, PartialEq)]
pub struct DraftSpeed {
    /// With guesses where they pay.
    pub tokens_per_s: f64,
    /// One token after the other.
    pub plain_tokens_per_s: f64,
    /// Tokens of a step with guesses, 1 where none came true.
    pub tokens_per_step: f64,
}

/// Decode a text from its `from`-th token on as if the student said it, with guesses and without: what guessing ahead brings on texts
/// of this kind, whatever the student would say itself.
///
/// # Panics
/// If `from` is not within the text.
pub fn measure_draft(student: &Arc<Student>, threads: usize, text: &[u32], from: usize) -> Result<DraftSpeed, Error> {
    assert!((1..text.len()).contains(&from), "an answer from token {from} on of a text of {}", text.len());
    let config = student.config();
    if text.len() > config.context {
        return Err(Error::Text { found: text.len(), limit: config.context });
    }
    if let Some(token) = text.iter().find(|token| **token as usize >= config.vocab) {
        return Err(Error::Request(format!("has the token {token}; the vocabulary has {}, from 0", config.vocab)));
    }
    let mut cache = Cache::new(config, text.len(), false);
    let pages = take(&mut cache, text.len());
    let mut work = Work::new(Isa::detect()?, threads)?;
    let mut forward = |rows: &[Row]| {
        black_box(student.network.forward(&mut cache, (rows, Needed::Largest), &|_| &pages, &mut work));
    };
    let row = |token: u32, position: usize| Row { token, position, sequence: 0, wants_logits: true };
    let prompt: Vec<Row> = (0..from - 1).map(|at| Row { wants_logits: false, ..row(text[at], at) }).collect();
    prompt.chunks(ROWS).for_each(&mut forward);
    let mut run = |draft: Draft| {
        let (mut drafter, mut known, mut steps) = (Drafter::new(draft), from, 0);
        let started = Instant::now();
        while known < text.len() {
            let (mut rows, mut expected) = (1, 1.0);
            let guess = drafter.draft(&text[..known], text.len() - known - 1, &mut rows, &mut expected);
            let mut batch = vec![row(text[known - 1], known - 1)];
            batch.extend(guess.iter().flat_map(|guess| (0..guess.count).map(|place| row(guess.token(place), known + place))));
            let step = Instant::now();
            forward(&batch);
            drafter.took(batch.len(), step.elapsed().as_secs_f64());
            let Some(guess) = guess else {
                (known, steps) = (known + 1, steps + 1);
                continue;
            };
            let right = (0..guess.count.max(1)).take_while(|place| text.get(known + place) == Some(&guess.token(*place))).count();
            drafter.verified(guess.agreement, right, right < guess.count.max(1));
            (known, steps) = (known + 1 + right.min(guess.count), steps + 1);
        }
        let tokens = (text.len() - from) as f64;
        (tokens / started.elapsed().as_secs_f64(), tokens / f64::from(steps))
    };
    let (plain_tokens_per_s, _) = run(Draft::Never);
    let (tokens_per_s, tokens_per_step) = run(Draft::WhenItPays);
    Ok(DraftSpeed { tokens_per_s, plain_tokens_per_s, tokens_per_step })
}

/// Pages for a sequence of so many tokens.
fn take(cache: &mut Cache, tokens: usize) -> Pages {
    let mut pages = Pages::new();
    (0..Cache::pages_for(tokens)).for_each(|_| cache.take(&mut pages));
    pages
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Bits;

    #[test]
    fn a_random_student_has_a_speed() {
        let table = crate::tests::table(model::Architecture::Bitnet);
        let config = table.resolve(300).unwrap();
        let student = Arc::new(Student::random(&config, Bits::Eight, 1).unwrap());
        let speed = measure_prompt(&student, 2, 10).unwrap();
        assert_eq!((speed.threads, speed.isa), (2, Isa::fastest()));
        // Two bits a weight, a byte for the head's, and scales.
        let weights = config.parameters() - 300 * config.width;
        assert!((weights / 4 + 300 * config.width..weights / 3 + 320 * config.width).contains(&speed.bytes_per_token));
        for figure in [speed.prefill_tokens_per_s, speed.decode_tokens_per_s, speed.batch_tokens_per_s, speed.bandwidth_share] {
            assert!(figure.is_finite() && figure > 0.0);
        }
        assert!(first_token(&student, 2).unwrap() > 0.0);
    }

    #[test]
    fn a_text_that_repeats_itself_takes_fewer_steps() {
        let table = crate::tests::table(model::Architecture::Bitnet);
        let student = Arc::new(Student::random(&table.resolve(300).unwrap(), Bits::Eight, 1).unwrap());
        let text: Vec<u32> = (0..160).map(|at| at % 40).collect();
        let speed = measure_draft(&student, 1, &text, 60).unwrap();
        assert!((1.0..=12.0).contains(&speed.tokens_per_step) && speed.tokens_per_s > 0.0 && speed.plain_tokens_per_s > 0.0);
        assert!(measure_draft(&student, 1, &vec![1; 161], 60).is_err());
    }

    #[test]
    fn a_shape_that_the_kernels_cannot_hold_is_refused() {
        let table = model::ModelTable { feed_forward: 1 << 20, ..crate::tests::table(model::Architecture::Llama) };
        let error = Student::random(&table.resolve(300).unwrap(), Bits::Eight, 1).err().unwrap();
        assert_eq!(error.to_string(), "a layer of 1048576 inputs: the kernels' sums hold at most 524288");
    }
}
