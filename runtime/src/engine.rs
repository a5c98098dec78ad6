//! Many requests over one student: continuous batching.
//!
//! Each step runs one batch of rows: the next token of every sequence that is decoding, with guesses at those after it, then as much
//! of waiting prompts as fits. A sequence takes all its pages of the cache when it starts, so that none ever has to be interrupted;
//! what the cache knows of its beginning is not computed again.

mod likelihood;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use crate::{
    Error, Sampling, Student,
    ahead::Ahead,
    cache::{Cache, Known, Pages},
    draft::Drafter,
    kernel::{Isa, PAGE},
    layer::log_sum_exp,
    network::{Needed, Row, Work},
    sampler::Sampler,
    text::Text,
};

/// Rows of a step at most, so that a long prompt does not keep others waiting.
pub(crate) const ROWS: usize = 256;
/// The most threads of an engine.
pub const MAX_THREADS: usize = 1024;

/// How an engine runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Threads that compute, at most [`MAX_THREADS`]. Changes the speed, never the tokens.
    pub threads: usize,
    /// Sequences that run side by side, at most 256. Changes the speed, never the tokens.
    pub slots: usize,
    /// Tokens of all sequences together whose keys and values are kept, and those of ended ones that a later prompt may begin with, as
    /// long as there is room; `None` is `slots` times the context, of which ended ones have one context. Memory is taken when it is
    /// needed, 4 x layers x key width bytes a token, and is the engine's until its end.
    pub cache_tokens: Option<usize>,
    /// Whether tokens are guessed ahead. Changes the speed, never the tokens.
    pub draft: Draft,
    /// Whether a sequence that runs alone is decoded some tokens ahead of the whole head, where that is large. They come together, at
    /// most 0.25 s and a token later than one by one. Changes the speed, never the tokens.
    pub run_ahead: bool,
}

/// Whether the engine guesses tokens ahead from what followed the same words before, and verifies the guess in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    /// One token after the other.
    Never,
    /// As far as earlier guesses and the time of earlier steps say that it saves time.
    WhenItPays,
    /// So many tokens, wherever there is something to guess from: for measuring.
    Always(usize),
}

impl Default for Options {
    /// A thread for each core, 32 slots, a cache that never refuses, guesses where they pay, runs ahead.
    fn default() -> Options {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        Options { threads, slots: 32, cache_tokens: None, draft: Draft::WhenItPays, run_ahead: true }
    }
}

/// What is asked of a student.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// How the answer's tokens are drawn.
    pub sampling: Sampling,
    /// The longest answer, in tokens.
    pub max_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Whether events carry the tokens' log-probabilities.
    pub log_probabilities: bool,
}

impl Request {
    /// The likeliest answer to a prompt.
    pub fn greedy(tokens: Vec<u32>, max_tokens: usize) -> Request {
        Request { tokens, sampling: Sampling::greedy(), max_tokens, stop: Vec::new(), log_probabilities: false }
    }
}

/// Which request an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

/// One more token of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Whose.
    pub request: RequestId,
    /// The token.
    pub token: u32,
    /// Its log-probability at temperature 1, where the request wants it.
    pub log_probability: Option<f32>,
    /// The text that is now certain: whole characters, no part of a stop string.
    pub text: String,
    /// Why it was the last token, if it was.
    pub finish: Option<Finish>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The student ended it.
    End,
    /// It came to this one of the request's stop strings.
    Stop(usize),
    /// It reached the request's `max_tokens`.
    Length,
    /// It filled the context.
    Context,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its tokens, with the one that ended it.
    pub tokens: Vec<u32>,
    /// Its text.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
}

/// Runs requests over one student.
pub struct Engine {
    student: Arc<Student>,
    work: Work,
    cache: Cache,
    slots: usize,
    next: u64,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    drafter: Drafter,
    /// `None` where nothing runs ahead.
    ahead: Option<Ahead>,
    /// The running sequences in the order in which a step takes them.
    order: Vec<usize>,
    /// The step's batch, and which sequence each part of it belongs to.
    rows: Vec<Row>,
    turns: Vec<Turn>,
}

/// A sequence's part of a step.
struct Turn {
    sequence: usize,
    rows: usize,
    /// Of the rows, those of guessed tokens and those that ran ahead.
    guessed: usize,
    /// Where there is something to guess from: how much agrees, and the first token of the guess, whether it runs or not.
    guess: Option<(usize, u32)>,
}

/// A request on its way.
struct Sequence {
    id: RequestId,
    /// The prompt and the answer so far.
    tokens: Vec<u32>,
    prompt: usize,
    /// Tokens whose keys and values are in the cache.
    computed: usize,
    /// The longest the tokens may become.
    limit: usize,
    max_tokens: usize,
    pages: Pages,
    /// Pages that the cache knows.
    known: Known,
    sampler: Sampler,
    text: Text,
    log_probabilities: bool,
}

impl Engine {
    /// An engine over a student. The environment variable `TRISTILL_ISA` may name the instruction set.
    pub fn new(student: Arc<Student>, options: &Options) -> Result<Engine, Error> {
        Engine::with_isa(student, options, Isa::detect()?)
    }

    pub(crate) fn with_isa(student: Arc<Student>, options: &Options, isa: Isa) -> Result<Engine, Error> {
        let config = student.config();
        let slots = options.slots.clamp(1, ROWS);
        let cache_tokens = options.cache_tokens.unwrap_or(slots.saturating_mul(config.context));
        let cache = Cache::new(config, cache_tokens, options.cache_tokens.is_some());
        let work = Work::new(isa, options.threads)?;
        let (waiting, drafter) = (VecDeque::new(), Drafter::new(options.draft));
        let ahead = (options.run_ahead && student.network.runs_ahead()).then(|| Ahead::new(student.network.longest_run()));
        let (running, order, rows, turns) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Engine { student, work, cache, slots, next: 0, waiting, running, drafter, ahead, order, rows, turns })
    }

    /// The student.
    pub fn student(&self) -> &Arc<Student> {
        &self.student
    }

    /// The instruction set of its kernels.
    pub fn isa(&self) -> Isa {
        self.work.isa()
    }

    /// Its threads.
    pub fn threads(&self) -> usize {
        self.work.threads()
    }

    /// Whether nothing waits or runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Queue a request.
    pub fn submit(&mut self, request: Request) -> Result<RequestId, Error> {
        self.check_tokens(&request.tokens)?;
        request.sampling.check()?;
        if request.max_tokens == 0 {
            return Err(Error::Request("for 0 tokens has no answer; ask for at least 1".into()));
        }
        if request.stop.iter().any(String::is_empty) {
            return Err(Error::Request("has an empty stop string, which would end every answer".into()));
        }
        let (prompt, context) = (request.tokens.len(), self.student.config().context);
        if prompt >= context {
            return Err(Error::Context { found: prompt, limit: context });
        }
        let limit = prompt.saturating_add(request.max_tokens).min(context);
        if Cache::pages_for(limit) > Cache::pages_for(self.cache.capacity()) {
            return Err(Error::Cache { needed: limit, limit: self.cache.capacity() });
        }
        let id = RequestId(self.next);
        self.next += 1;
        let mut tokens = request.tokens;
        let sampler = Sampler::new(request.sampling, &tokens);
        tokens.reserve_exact(limit - prompt); // At most the context, and no allocation while it answers.
        self.waiting.push_back(Sequence {
            id,
            prompt,
            computed: 0,
            limit,
            max_tokens: request.max_tokens,
            pages: Vec::new(),
            known: Known::default(),
            sampler,
            text: Text::new(request.stop),
            log_probabilities: request.log_probabilities,
            tokens,
        });
        Ok(id)
    }

    /// Forget a request; there are no more events of it. One that has ended is no error.
    pub fn cancel(&mut self, request: RequestId) {
        self.waiting.retain(|sequence| sequence.id != request);
        if let Some(place) = self.running.iter().position(|sequence| sequence.id == request) {
            let sequence = self.running.remove(place);
            self.cache.give_back(sequence.pages);
        }
    }

    /// Run one batch: no, one or several tokens of each running request. It returns after the time of at most 256 tokens of prompts, or
    /// that of running ahead.
    pub fn step(&mut self) -> Vec<Event> {
        self.admit();
        self.plan();
        if self.rows.is_empty() {
            return Vec::new();
        }
        let (started, runs_ahead) = (Instant::now(), self.runs_ahead());
        let Engine { student, cache, work, running, rows, turns, drafter, ahead, .. } = self;
        let mut ahead = ahead.as_mut().filter(|_| runs_ahead);
        let needed = if running.iter().all(Sequence::needs_largest) { Needed::Largest } else { Needed::All };
        let mut logits = if let Some(ahead) = &mut ahead {
            let Sequence { tokens, limit, pages, sampler, .. } = &mut running[0];
            let logits = ahead.run(student, (cache, work), (tokens, *limit), pages, (sampler, drafter), (rows, needed));
            (turns[0].rows, turns[0].guessed) = (rows.len(), rows.len() - 1);
            drafter.took(1, started.elapsed().as_secs_f64() / rows.len() as f64);
            logits
        } else {
            let logits = student.network.forward(cache, (rows, needed), &|sequence| &running[sequence].pages, work);
            if running.iter().all(Sequence::decodes) {
                drafter.took(rows.len(), started.elapsed().as_secs_f64());
            }
            logits
        };
        let (vocab, mut first) = (student.config().vocab, 0);
        let mut events = Vec::with_capacity(rows.iter().filter(|row| row.wants_logits).count());
        for turn in turns {
            let rows = &rows[first..first + turn.rows];
            first += turn.rows;
            let sequence = &mut running[turn.sequence];
            if sequence.left() > turn.rows {
                sequence.computed += turn.rows;
            } else {
                let own;
                (own, logits) = logits.split_at_mut((1 + turn.guessed) * vocab);
                let (mut right, mut wrong, first_event) = (0, false, events.len());
                for (place, logits) in own.chunks_exact_mut(vocab).enumerate() {
                    let event = sequence.advance(student, logits);
                    let guess = rows.get(place + 1).map(|row| row.token);
                    let guess = guess.or(turn.guess.map(|(_, first)| first).filter(|_| place == 0 && ahead.is_none()));
                    let (token, ends) = (event.token, event.finish.is_some());
                    events.push(event);
                    match guess {
                        Some(guess) if guess == token => right += 1,
                        Some(_) => wrong = true,
                        None => {}
                    }
                    // What follows a token that was guessed wrong, or the last one, is void.
                    if wrong || ends {
                        break;
                    }
                }
                if let Some(ahead) = &mut ahead {
                    ahead.verified(!wrong);
                }
                if let Some((agreement, first)) = turn.guess {
                    // What ran ahead was no guess of the drafter's, whose first token can be told from what came.
                    let came = events[first_event].token == first;
                    let (right, wrong) = if ahead.is_some() { (usize::from(came), !came) } else { (right, wrong) };
                    drafter.verified(agreement, right, wrong);
                }
                sequence.computed = sequence.tokens.len() - 1;
            }
            cache.remember(&sequence.pages, &sequence.tokens[..sequence.computed], &mut sequence.known);
        }
        for event in events.iter().filter(|event| event.finish.is_some()) {
            let place = running.iter().position(|sequence| sequence.id == event.request).expect("a request ends once");
            cache.give_back(running.remove(place).pages);
        }
        events
    }

    /// Whether the step that is planned is one token of the only request there is.
    fn runs_ahead(&self) -> bool {
        let alone = self.running.len() == 1 && self.waiting.is_empty() && self.rows.len() == 1;
        alone && self.ahead.is_some() && self.running[0].decodes() && !self.running[0].log_probabilities
    }

    /// Choose the rows of a step.
    fn plan(&mut self) {
        self.rows.clear();
        self.turns.clear();
        let decoding = self.running.iter().filter(|sequence| sequence.decodes()).count();
        let (mut count, mut expected) = (decoding, decoding as f64);
        // A step with a prompt in it is limited by computing.
        let drafts = decoding == self.running.len();
        // The shortest rest of a prompt comes first, so that none waits for one that is much longer; half of the rows are the oldest
        // one's, so that it does not wait for ever.
        let oldest = self.running.iter().position(|sequence| !sequence.decodes());
        let mut reserved = oldest.map_or(0, |oldest| self.running[oldest].left().min(ROWS / 2));
        self.order.clear();
        self.order.extend(0..self.running.len());
        self.order.sort_unstable_by_key(|index| (self.running[*index].left(), *index));
        for &index in &self.order {
            let sequence = &self.running[index];
            let (position, row) =
                (sequence.computed, |token, position, wants_logits| Row { token, position, sequence: index, wants_logits });
            if sequence.decodes() {
                // The answer's last token is not computed, and neither is what a guess would put in its place.
                let room = (sequence.limit - sequence.tokens.len()).saturating_sub(1);
                let guess = if drafts { self.drafter.draft(&sequence.tokens, room, &mut count, &mut expected) } else { None };
                let guessed = guess.map_or(0, |guess| guess.count);
                self.rows.push(row(sequence.tokens[position], position, true));
                self.rows
                    .extend(guess.iter().flat_map(|guess| (0..guessed).map(|place| row(guess.token(place), position + 1 + place, true))));
                let guess = guess.map(|guess| (guess.agreement, guess.token(0)));
                self.turns.push(Turn { sequence: index, rows: 1 + guessed, guessed, guess });
            } else {
                if Some(index) == oldest {
                    reserved = 0;
                }
                let rows = sequence.left().min(ROWS.saturating_sub(count + reserved));
                let tokens = (position..).zip(&sequence.tokens[position..position + rows]);
                self.rows.extend(tokens.map(|(position, token)| row(*token, position, position + 1 == sequence.tokens.len())));
                self.turns.push(Turn { sequence: index, rows, guessed: 0, guess: None });
                count += rows;
            }
        }
    }

    /// Run one request to its end.
    ///
    /// # Panics
    /// If other requests wait or run, whose events would be lost.
    pub fn generate(&mut self, request: Request) -> Result<Answer, Error> {
        assert!(self.is_idle(), "other requests are on their way; submit this one and step");
        self.submit(request)?;
        let (mut tokens, mut text) = (Vec::new(), String::new());
        loop {
            for event in self.step() {
                tokens.push(event.token);
                text.push_str(&event.text);
                if let Some(finish) = event.finish {
                    return Ok(Answer { tokens, text, finish });
                }
            }
        }
    }

    /// Start waiting requests while there are slots and pages, in their order.
    fn admit(&mut self) {
        let mut next = 0;
        while self.running.len() < self.slots
            && let Some(sequence) = self.waiting.get(next)
        {
            let (mut pages, known) = self.cache.find(&sequence.tokens);
            let missing = Cache::pages_for(sequence.limit) - pages.len();
            // What another is just computing is worth waiting for, while those behind may begin.
            let awaited = self.running.iter().any(|other| other.computes_for(sequence, known.pages));
            let has_room = missing <= self.cache.available();
            if awaited || !has_room {
                self.cache.give_back(pages);
                next += 1;
                if has_room { continue } else { break }
            }
            (0..missing).for_each(|_| self.cache.take(&mut pages));
            let mut sequence = self.waiting.remove(next).expect("it was just looked at");
            (sequence.pages, sequence.known, sequence.computed) = (pages, known, known.pages * PAGE);
            self.running.push(sequence);
        }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), Error> {
        let vocab = self.student.config().vocab;
        match tokens.iter().find(|token| **token as usize >= vocab) {
            Some(token) => Err(Error::Request(format!("has the token {token}; the vocabulary has {vocab}, from 0"))),
            None if tokens.is_empty() => Err(Error::Request("has no tokens; a prompt needs at least one".into())),
            None => Ok(()),
        }
    }
}

impl Sequence {
    /// Tokens that are not computed yet.
    fn left(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether its last token is the only one that is left.
    fn decodes(&self) -> bool {
        self.left() == 1
    }

    /// Whether its next token is the largest logit's and nothing else is asked for.
    fn needs_largest(&self) -> bool {
        self.sampler.takes_largest() && !self.log_probabilities
    }

    /// Whether this sequence will compute more full pages of the other one's prompt than the `known` ones.
    fn computes_for(&self, other: &Sequence, known: usize) -> bool {
        let same = self.tokens.iter().zip(&other.tokens[..other.prompt - 1]).take_while(|(one, two)| one == two).count();
        same / PAGE > known && self.computed < same / PAGE * PAGE
    }

    /// Choose the next token from its logits.
    fn advance(&mut self, student: &Student, logits: &mut [f32]) -> Event {
        let normaliser = self.log_probabilities.then(|| (log_sum_exp(logits), logits.to_vec()));
        let token = self.sampler.next(logits);
        let log_probability = normaliser.map(|(sum, logits)| (f64::from(logits[token as usize]) - sum) as f32);
        self.tokens.push(token);
        let tokenizer = student.tokenizer();
        let (mut text, mut finish) = (String::new(), None);
        if tokenizer.end_ids().contains(&token) {
            finish = Some(Finish::End);
        } else {
            let (more, stop) = self.text.push(tokenizer.token_bytes(token));
            text = more;
            if let Some(stop) = stop {
                finish = Some(Finish::Stop(stop));
            } else if self.tokens.len() - self.prompt == self.max_tokens {
                finish = Some(Finish::Length);
            } else if self.tokens.len() == self.limit {
                finish = Some(Finish::Context);
            }
        }
        if finish.is_some() {
            text.push_str(&self.text.finish());
        }
        Event { request: self.id, token, log_probability, text, finish }
    }
}
