//! The whole runtime against a plain forward pass in f64, and against itself: any batch, any thread count, any instruction set.

mod large_heads;

use std::{path::Path, sync::Arc};

use half::f16;
use model::{
    Activation, Architecture, ChatTemplate, Error as ModelError, InputQuant, ModelConfig, ModelTable, Packed, Quant, Role, Scale,
    TensorSpec, Tokenizer,
    block::{Format, decode_row},
    packed::{self, stored_rows},
    ternary,
};

use crate::{
    Draft, Engine, Error, Event, Finish, Options, Request, Sampling, Student,
    kernel::{Isa, Packing},
};

pub(crate) fn table(architecture: Architecture) -> ModelTable {
    ModelTable {
        architecture,
        width: 256,
        layers: 2,
        heads: 4,
        kv_heads: Some(2),
        feed_forward: 512,
        context: 160,
        activation: Activation::Silu,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
        quant: Quant::Ternary,
        scale: Scale::Row,
        activations: InputQuant::Int8,
    }
}

/// Numbers that look random, are the same every time and give a student whose tokens vary.
fn weights(spec: &TensorSpec) -> Result<Vec<f32>, ModelError> {
    let mut state =
        spec.name.bytes().fold(0x9E37_79B9_7F4A_7C15u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let gain = spec.shape.len() == 1 && !spec.name.ends_with("bias");
    Ok((0..spec.len()).map(|_| if gain { 1.0 + 0.3 * next() } else { 0.08 * next() }).collect())
}

fn pack(table: &ModelTable, ternary: Format) -> Vec<u8> {
    let tokenizer = Tokenizer::train(vec!["one two three four five six seven".to_owned(); 4].into_iter(), 290).unwrap();
    let config = table.resolve(tokenizer.vocab()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.gguf");
    let options = packed::Options { name: "test".into(), ternary };
    packed::write::<ModelError>(&path, &config, &tokenizer, &ChatTemplate::chatml(), &options, weights).unwrap();
    std::fs::read(path).unwrap()
}

fn student(table: &ModelTable) -> Arc<Student> {
    Arc::new(Student::read(&pack(table, Format::Tq2_0), Path::new("test"), Packing::Four).unwrap())
}

fn engine(student: &Arc<Student>, isa: Isa, threads: usize, slots: usize) -> Engine {
    Engine::with_isa(Arc::clone(student), &Options { threads, slots, ..Options::default() }, isa).unwrap()
}

fn prompt(length: usize, seed: usize) -> Vec<u32> {
    (0..length).map(|at| ((at * 37 + seed * 101) % 280) as u32).collect()
}

/// The forward pass as the formulas say it, in f64 but for the quantised inputs of linear layers.
struct Reference {
    config: ModelConfig,
    tensors: Vec<(Role, Option<usize>, Vec<f64>)>,
}

impl Reference {
    fn new(bytes: &[u8]) -> Reference {
        let packed = Packed::parse(bytes).unwrap();
        let read = |tensor: &packed::PackedTensor| {
            let mut floats = vec![0.0; tensor.spec.len()];
            let columns = *tensor.spec.shape.last().unwrap();
            let stored = &bytes[tensor.range.clone()];
            let row_bytes = stored.len() / (floats.len() / columns);
            for (out, row) in floats.chunks_mut(columns).zip(stored.chunks(row_bytes)) {
                decode_row(tensor.format, row, out).unwrap();
            }
            if let Some(rows) = stored_rows(&packed.config, tensor.spec.role) {
                let columns = floats.len() / rows.len();
                let stored = floats.clone();
                for (at, row) in rows.iter().enumerate() {
                    floats[row * columns..(row + 1) * columns].copy_from_slice(&stored[at * columns..(at + 1) * columns]);
                }
            }
            (tensor.spec.role, tensor.spec.layer, floats.into_iter().map(f64::from).collect())
        };
        Reference { tensors: packed.tensors.iter().map(read).collect(), config: packed.config }
    }

    fn find(&self, role: Role, layer: Option<usize>) -> Option<&[f64]> {
        self.tensors.iter().find(|(r, l, _)| *r == role && *l == layer).map(|(_, _, floats)| &floats[..])
    }

    fn linear(&self, role: Role, layer: usize, x: &[f64]) -> Vec<f64> {
        let weights = self.find(role, Some(layer)).unwrap();
        let Some(largest) = self.config.largest_input() else {
            return weights.chunks(x.len()).map(|row| dot(row, x)).collect();
        };
        let mut codes = vec![0; x.len()];
        let floats: Vec<f32> = x.iter().map(|x| *x as f32).collect();
        let scale = f64::from(ternary::quantize_activations_to(largest, &floats, &mut codes));
        let codes: Vec<f64> = codes.into_iter().map(f64::from).collect();
        weights.chunks(x.len()).map(|row| dot(row, &codes) * scale).collect()
    }

    fn norm(&self, role: Role, layer: Option<usize>, x: &[f64]) -> Vec<f64> {
        let Some(weight) = self.find(role, layer) else { return x.to_vec() };
        let inverse = 1.0 / (dot(x, x) / x.len() as f64 + f64::from(self.config.norm_epsilon)).sqrt();
        x.iter().zip(weight).map(|(x, weight)| x * inverse * weight).collect()
    }

    fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let config = &self.config;
        let embedding = self.find(Role::Embedding, None).unwrap();
        let mut hidden: Vec<Vec<f64>> =
            tokens.iter().map(|token| embedding[*token as usize * config.width..][..config.width].to_vec()).collect();
        for layer in 0..config.layers {
            let at = Some(layer);
            let projected: Vec<[Vec<f64>; 3]> = hidden
                .iter()
                .enumerate()
                .map(|(position, x)| {
                    let x = self.norm(Role::AttentionNorm, at, x);
                    let project = |role, bias, norm: Option<Role>| {
                        let mut y = self.linear(role, layer, &x);
                        if let Some(bias) = self.find(bias, at) {
                            y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
                        }
                        let heads = y.chunks(config.head_width);
                        let Some(norm) = norm else { return y };
                        heads.flat_map(|head| turn(&self.norm(norm, at, head), position, f64::from(config.rope_base))).collect()
                    };
                    [
                        project(Role::Query, Role::QueryBias, Some(Role::QueryNorm)),
                        project(Role::Key, Role::KeyBias, Some(Role::KeyNorm)),
                        project(Role::Value, Role::ValueBias, None),
                    ]
                })
                .collect();
            for position in 0..tokens.len() {
                let mut attended = Vec::new();
                for (head, query) in projected[position][0].chunks(config.head_width).enumerate() {
                    let kv = head / (config.heads / config.kv_heads) * config.head_width;
                    // The cache keeps keys and values in f16.
                    let part = |which: usize, at: usize| -> Vec<f64> {
                        projected[at][which][kv..kv + config.head_width].iter().map(|x| f16::from_f64(*x).to_f64()).collect()
                    };
                    let scores: Vec<f64> =
                        (0..=position).map(|at| (dot(query, &part(1, at)) / (config.head_width as f64).sqrt()).exp()).collect();
                    let total: f64 = scores.iter().sum();
                    attended.extend(
                        (0..config.head_width)
                            .map(|i| scores.iter().enumerate().map(|(at, score)| score * part(2, at)[i]).sum::<f64>() / total),
                    );
                }
                let y = self.linear(Role::Output, layer, &self.norm(Role::AttentionSubNorm, at, &attended));
                hidden[position].iter_mut().zip(y).for_each(|(x, y)| *x += y);
                let x = self.norm(Role::FeedForwardNorm, at, &hidden[position]);
                let (gate, up) = (self.linear(Role::Gate, layer, &x), self.linear(Role::Up, layer, &x));
                let gated: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(gate, up)| match config.activation {
                        Activation::Silu => gate / (1.0 + (-gate).exp()) * up,
                        Activation::Relu2 => gate.max(0.0).powi(2) * up,
                    })
                    .collect();
                let y = self.linear(Role::Down, layer, &self.norm(Role::FeedForwardSubNorm, at, &gated));
                hidden[position].iter_mut().zip(y).for_each(|(x, y)| *x += y);
            }
        }
        let head = self.find(Role::Head, None).unwrap_or(embedding);
        let logits = hidden.iter().flat_map(|x| {
            let x = self.norm(Role::FinalNorm, None, x);
            head.chunks(config.width).map(|row| dot(row, &x)).collect::<Vec<_>>()
        });
        logits.collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn turn(head: &[f64], position: usize, base: f64) -> Vec<f64> {
    let half = head.len() / 2;
    let angle = |i: usize| position as f64 * base.powf(-2.0 * (i % half) as f64 / head.len() as f64);
    let other = |i: usize| if i < half { -head[i + half] } else { head[i - half] };
    (0..head.len()).map(|i| head[i] * angle(i).cos() + other(i) * angle(i).sin()).collect()
}

#[test]
fn every_architecture_computes_what_the_formulas_say() {
    let mut tables = vec![];
    for architecture in [Architecture::Bitnet, Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
        tables.push(table(architecture));
        tables.push(ModelTable { quant: Quant::None, ..table(architecture) });
    }
    tables.push(ModelTable { activation: Activation::Relu2, scale: Scale::Tensor, ..table(Architecture::Bitnet) });
    tables.push(ModelTable { scale: Scale::Group, ..table(Architecture::Bitnet) });
    for quant in [Quant::Int8, Quant::Int4] {
        tables.push(ModelTable { quant, ..table(Architecture::Llama) });
        tables.push(ModelTable { quant, activations: InputQuant::None, ..table(Architecture::Bitnet) });
    }
    tables.push(ModelTable { activations: InputQuant::None, ..table(Architecture::Bitnet) });
    for table in tables {
        for format in [Format::Tq2_0, Format::Tq1_0] {
            let bytes = pack(&table, format);
            let student = Arc::new(Student::read(&bytes, Path::new("test"), Packing::Four).unwrap());
            let tokens = prompt(70, 1);
            let found = engine(&student, Isa::fastest(), 2, 1).logits(&tokens).unwrap();
            let expected = Reference::new(&bytes).logits(&tokens);
            let difference: f64 = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
            let relative = (difference / dot(&expected, &expected)).sqrt();
            // An activation that rounds the other way changes a code by one; in full precision only the head's input rounds.
            let is_smooth = table.quant == Quant::None || table.activations == InputQuant::None;
            let limit = if is_smooth { 1e-4 } else { 2e-2 };
            assert!(relative < limit, "{table:?}: {relative}");
        }
    }
}

#[test]
fn neither_threads_nor_instruction_sets_nor_packings_change_a_bit() {
    let tokens = prompt(100, 2);
    for (scale, format) in [(Scale::Row, Format::Tq2_0), (Scale::Tensor, Format::Tq1_0), (Scale::Group, Format::Tq2_0)] {
        let bytes = pack(&ModelTable { scale, ..table(Architecture::Bitnet) }, format);
        let students = [Packing::Four, Packing::Five].map(|packing| Arc::new(Student::read(&bytes, Path::new("test"), packing).unwrap()));
        assert_eq!(students[0].bytes_per_token() > students[1].bytes_per_token(), scale != Scale::Group);
        let bits = |student, isa, threads| -> Vec<u32> {
            engine(student, isa, threads, 1).logits(&tokens).unwrap().into_iter().map(f32::to_bits).collect()
        };
        let expected = bits(&students[0], Isa::SCALAR, 1);
        for isa in Isa::supported() {
            for student in &students {
                for threads in [1, 2, 3] {
                    assert!(bits(student, isa, threads) == expected, "{isa}, {threads} threads, {scale:?}");
                }
            }
        }
    }
}

#[test]
fn the_batch_does_not_change_an_answer() {
    let student = student(&table(Architecture::Bitnet));
    let requests: Vec<Request> = (0..12)
        .map(|seed| Request {
            sampling: Sampling { temperature: if seed % 3 == 0 { 0.0 } else { 0.8 }, top_p: 0.95, seed: seed as u64, ..Sampling::greedy() },
            log_probabilities: true,
            ..Request::greedy(prompt(1 + seed * 12, seed), 20 + seed)
        })
        .collect();
    let alone: Vec<_> = requests.iter().map(|request| engine(&student, Isa::fastest(), 1, 1).generate(request.clone()).unwrap()).collect();
    for slots in [1, 3, 12] {
        let mut engine = engine(&student, Isa::fastest(), 2, slots);
        let ids: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
        let mut tokens = vec![Vec::new(); ids.len()];
        let mut finish = vec![None; ids.len()];
        while !engine.is_idle() {
            for event in engine.step() {
                let at = ids.iter().position(|id| *id == event.request).unwrap();
                assert!(finish[at].is_none() && event.log_probability.unwrap() <= 0.0);
                tokens[at].push(event.token);
                finish[at] = event.finish;
            }
        }
        for ((alone, tokens), finish) in alone.iter().zip(&tokens).zip(finish) {
            assert_eq!((&alone.tokens, Some(&alone.finish)), (tokens, finish.as_ref()));
        }
    }
}

/// What came of requests, in their order.
fn answers(engine: &mut Engine, requests: &[Request]) -> Vec<Vec<Event>> {
    let ids: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    let mut events = vec![Vec::new(); ids.len()];
    while !engine.is_idle() {
        for event in engine.step() {
            let at = ids.iter().position(|id| *id == event.request).unwrap();
            assert!(events[at].last().is_none_or(|last: &Event| last.finish.is_none()), "an event after the last one");
            events[at].push(event);
        }
    }
    events
}

#[test]
fn guesses_change_nothing_but_the_number_of_steps() {
    let student = student(&table(Architecture::Bitnet));
    // Random weights soon repeat themselves; prompts that do, and settings of every kind.
    let mut requests: Vec<Request> = (0..6)
        .map(|seed| Request {
            sampling: Sampling {
                temperature: if seed % 2 == 0 { 0.0 } else { 0.3 },
                repetition_penalty: if seed == 4 { 1.1 } else { 1.0 },
                top_p: 0.95,
                seed: seed as u64,
                ..Sampling::greedy()
            },
            log_probabilities: true,
            ..Request::greedy([prompt(7, seed), prompt(7, seed), prompt(5, seed)].concat(), 100 + 30 * seed)
        })
        .collect();
    let plain =
        |draft| Engine::with_isa(Arc::clone(&student), &Options { threads: 2, draft, ..Options::default() }, Isa::fastest()).unwrap();
    let expected = answers(&mut plain(Draft::Never), &requests);
    // A stop string that comes in the middle of an answer, and so of a guess now and then.
    let text: String = expected[0].iter().map(|event| event.text.as_str()).collect();
    let stop = text.chars().filter(char::is_ascii).max_by_key(|letter| text.find(*letter)).expect("an answer with a letter");
    requests.push(Request { stop: vec![stop.to_string()], ..requests[0].clone() });
    let expected = answers(&mut plain(Draft::Never), &requests);
    assert!(matches!(expected[6].last().unwrap().finish, Some(Finish::Stop(0))));
    for draft in [Draft::WhenItPays, Draft::Always(1), Draft::Always(3), Draft::Always(11), Draft::Always(40)] {
        assert_eq!(answers(&mut plain(draft), &requests), expected, "{draft:?}");
    }
    let steps = |draft| {
        let mut engine = plain(draft);
        engine.submit(requests[0].clone()).unwrap();
        std::iter::from_fn(|| (!engine.is_idle()).then(|| engine.step())).count()
    };
    let (fewer, all) = (steps(Draft::Always(3)), steps(Draft::Never));
    assert_eq!(all, expected[0].len());
    assert!(fewer < all, "{fewer} steps of {all}: no guess came true");
}

#[test]
fn a_prompt_that_begins_like_another_is_computed_once() {
    let student = student(&table(Architecture::Qwen3));
    let requests: Vec<Request> = (0..5)
        .map(|seed| Request::greedy([prompt(130, 9), prompt(4 + seed, seed)].concat(), 6))
        .chain([Request::greedy(prompt(64, 9), 3), Request::greedy(prompt(65, 9), 3), Request::greedy(prompt(70, 8), 3)])
        .collect();
    let alone: Vec<_> = requests.iter().map(|request| engine(&student, Isa::fastest(), 1, 1).generate(request.clone()).unwrap()).collect();
    // Guesses, which depend on the time that steps take, would change how many there are.
    let options = Options { threads: 2, slots: 8, draft: Draft::Never, ..Options::default() };
    let mut engine = Engine::with_isa(Arc::clone(&student), &options, Isa::fastest()).unwrap();
    let mut steps = [0; 2];
    for steps in &mut steps {
        let ids: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
        let mut tokens = vec![Vec::new(); ids.len()];
        while !engine.is_idle() {
            *steps += 1;
            for event in engine.step() {
                tokens[ids.iter().position(|id| *id == event.request).unwrap()].push(event.token);
            }
        }
        assert_eq!(tokens, alone.iter().map(|answer| answer.tokens.clone()).collect::<Vec<_>>());
    }
    // The first time, six of them wait until the first has computed what they begin with.
    assert!(steps[1] < steps[0], "{steps:?}");
    // So does a text that is given, whose end alone is new, and it says the same.
    let text = [prompt(130, 9), prompt(9, 3)].concat();
    let fresh = crate::tests::engine(&student, Isa::fastest(), 1, 1).log_likelihood(&text, 131).unwrap();
    assert_eq!(engine.log_likelihood(&text, 131).unwrap(), fresh);
    assert_eq!(engine.log_likelihood(&text, 5).unwrap()[126..], fresh);
}

#[test]
fn who_waits_for_what_another_computes_keeps_no_one_waiting() {
    let student = student(&table(Architecture::Qwen3));
    let mut engine = engine(&student, Isa::fastest(), 1, 4);
    let mut submit = |tokens| engine.submit(Request::greedy(tokens, 3)).unwrap();
    let [first, _, third] = [prompt(130, 9), [prompt(130, 9), prompt(4, 1)].concat(), prompt(5, 2)].map(&mut submit);
    let mut told: Vec<_> = engine.step().into_iter().map(|event| event.request).collect();
    told.sort_unstable();
    assert_eq!(told, [first, third]);
}

#[test]
fn a_long_prompt_is_not_put_off_by_shorter_ones() {
    let student = student(&table(Architecture::Qwen3));
    let mut engine = engine(&student, Isa::fastest(), 1, 4);
    let long = engine.submit(Request::greedy(prompt(150, 1), 1)).unwrap();
    // Three of 120 tokens fill a step of 256 rows, and there are three new ones whenever some are done.
    let mut steps = 0;
    for seed in (2..).step_by(3) {
        for seed in seed..seed + 3 {
            engine.submit(Request::greedy(prompt(120, seed), 1)).unwrap();
        }
        steps += 1;
        assert!(steps < 5, "the long prompt still waits");
        if engine.step().iter().any(|event| event.request == long) {
            break;
        }
    }
}

#[test]
fn a_step_at_a_time_equals_the_whole_text() {
    let student = student(&table(Architecture::Qwen3));
    let mut engine = engine(&student, Isa::fastest(), 1, 1);
    let answer = engine.generate(Request::greedy(prompt(9, 3), 40)).unwrap();
    let text: Vec<u32> = prompt(9, 3).into_iter().chain(answer.tokens.iter().copied()).collect();
    let logits = engine.logits(&text).unwrap();
    let best: Vec<u32> = logits.chunks(student.config().vocab).map(crate::sampler::likeliest).collect();
    assert_eq!(best[8..best.len() - 1], answer.tokens);
    let likelihood = engine.log_likelihood(&text, 9).unwrap();
    assert_eq!(likelihood.len(), answer.tokens.len());
    for (place, found) in likelihood.iter().enumerate() {
        let row = &logits[(8 + place) * student.config().vocab..][..student.config().vocab];
        let expected = f64::from(row[answer.tokens[place] as usize]) - row.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
        assert!((f64::from(*found) - expected).abs() < 1e-5);
    }
}

#[test]
fn answers_end_for_the_reason_they_say() {
    let student = student(&table(Architecture::Bitnet));
    let mut engine = engine(&student, Isa::fastest(), 1, 4);
    let long = engine.generate(Request::greedy(prompt(150, 4), 1000)).unwrap();
    assert!(long.finish == Finish::End || (long.finish == Finish::Context && long.tokens.len() == 10), "{long:?}");
    let short = engine.generate(Request::greedy(prompt(5, 5), 30)).unwrap();
    assert!(short.finish == Finish::End || (short.finish == Finish::Length && short.tokens.len() == 30), "{short:?}");
    let one = engine.generate(Request::greedy(prompt(5, 5), 1)).unwrap();
    assert_eq!((one.finish, one.tokens.len()), (Finish::Length, 1));
    let stop = short.text.chars().skip(2).find(char::is_ascii).expect("an answer with a letter").to_string();
    let stopped = engine.generate(Request { stop: vec!["never".into(), stop.clone()], ..Request::greedy(prompt(5, 5), 30) }).unwrap();
    assert_eq!((stopped.finish, stopped.text.as_str()), (Finish::Stop(1), short.text.split(&stop).next().unwrap()));
}

#[test]
fn a_cancelled_request_gives_its_pages_back() {
    let student = student(&table(Architecture::Bitnet));
    let mut engine = Engine::with_isa(
        Arc::clone(&student),
        &Options { threads: 1, slots: 4, cache_tokens: Some(160), ..Options::default() },
        Isa::fastest(),
    )
    .unwrap();
    let first = engine.submit(Request::greedy(prompt(100, 6), 60)).unwrap();
    let second = engine.submit(Request::greedy(prompt(100, 7), 60)).unwrap();
    let whose = |engine: &mut Engine| engine.step().into_iter().map(|event| event.request).collect::<Vec<_>>();
    // The cache has room for one of them.
    assert_eq!(whose(&mut engine), [first]);
    engine.cancel(first);
    assert_eq!(whose(&mut engine), [second]);
    engine.cancel(second);
    assert!(engine.is_idle() && engine.step().is_empty());
}

#[test]
fn requests_that_cannot_run_are_refused_with_numbers() {
    let student = student(&table(Architecture::Bitnet));
    let mut engine = Engine::with_isa(
        Arc::clone(&student),
        &Options { threads: 1, slots: 1, cache_tokens: Some(64), ..Options::default() },
        Isa::fastest(),
    )
    .unwrap();
    let vocab = student.config().vocab as u32;
    for (request, part) in [
        (Request::greedy(vec![], 1), "at least one"),
        (Request::greedy(vec![vocab], 1), "vocabulary"),
        (Request::greedy(vec![1], 0), "at least 1"),
        (Request::greedy(prompt(160, 1), 1), "160 tokens: the context holds 160"),
        (Request::greedy(prompt(60, 1), 60), "120 tokens: the cache holds 64"),
        (Request { stop: vec![String::new()], ..Request::greedy(vec![1], 1) }, "empty stop"),
        (Request { sampling: Sampling { top_p: 2.0, ..Sampling::greedy() }, ..Request::greedy(vec![1], 1) }, "top_p is 2"),
    ] {
        let message = engine.submit(request).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    assert!(engine.log_likelihood(&[1, 2], 0).is_err());
}

#[test]
fn damaged_weights_are_named() {
    let bytes = pack(&table(Architecture::Bitnet), Format::Tq2_0);
    let packed = Packed::parse(&bytes).unwrap();
    let spoil = |role: Role, at: usize, damage: &[u8]| {
        let mut bytes = bytes.clone();
        let tensor = packed.tensors.iter().find(|tensor| tensor.spec.role == role).unwrap();
        bytes[tensor.range.start + at..][..damage.len()].copy_from_slice(damage);
        match Student::read(&bytes, Path::new("test"), Packing::Four) {
            Ok(_) => panic!("it opened"),
            Err(error @ Error::Tensor { .. }) => error.to_string(),
            Err(other) => panic!("{other}"),
        }
    };
    assert!(spoil(Role::Gate, 3, &[0xff]).contains("blk.0.ffn_gate.weight: row 0 holds a code"));
    assert!(spoil(Role::Gate, 65, &[0x7c]).contains("not a finite number"));
    assert!(spoil(Role::Down, 66 + 65, &[1]).contains("the file says that a row has one"));
    assert!(spoil(Role::Embedding, 1, &[0x7c]).contains("token_embd.weight: a scale"));
    assert!(spoil(Role::FinalNorm, 2, &[0xc0, 0x7f]).contains("output_norm.weight"));
}
