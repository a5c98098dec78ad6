//! A decoded token allocates nothing but its event: the list of a step's events and the text in one.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use model::{Activation, Architecture, InputQuant, ModelTable, Quant, Scale};
use tristill_runtime::{Draft, Engine, Options, Request, Student, kernel::Bits};

struct Counting;

/// Allocations of all threads so far.
static COUNT: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        // SAFETY: passed on from the caller.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[test]
fn a_token_allocates_nothing_but_its_event() {
    let table = ModelTable {
        architecture: Architecture::Bitnet,
        width: 256,
        layers: 2,
        heads: 4,
        kv_heads: Some(2),
        feed_forward: 512,
        context: 512,
        activation: Activation::Silu,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
        quant: Quant::Ternary,
        scale: Scale::Row,
        activations: InputQuant::Int8,
    };
    let student = |vocab| Arc::new(Student::random(&table.resolve(vocab).unwrap(), Bits::Eight, 1).unwrap());
    // With a large head, one sequence alone runs ahead of it.
    let (small, large) = (student(300), student(1 << 15));
    for (student, sequences, draft, temperature) in [
        (&small, 2, Draft::Never, 0.0),
        (&small, 2, Draft::Never, 0.8),
        (&small, 2, Draft::Always(3), 0.0),
        (&large, 1, Draft::Never, 0.0),
        (&large, 1, Draft::Never, 0.8),
    ] {
        let options = Options { threads: 2, slots: 2, draft, ..Options::default() };
        let mut engine = Engine::new(Arc::clone(student), &options).unwrap();
        let (mut counted, mut tokens) = (0, 0);
        // The first round makes room for what later ones use again. No page of 64 positions becomes full after the prompt, because a
        // full page's tokens are remembered.
        for round in 0..2 {
            let mut first = None;
            for seed in 0..sequences {
                let mut request = Request::greedy((0..130).map(|at| (at * 7 + seed + 3 * round) % 256).collect(), 50);
                (request.sampling.temperature, request.sampling.top_p) = (temperature, 0.9);
                let id = engine.submit(request).unwrap();
                first = first.or(Some(id));
            }
            // All have begun to answer: what a prompt takes, and the page that is remembered of it, is no token's.
            let mut begun = vec![false; sequences as usize];
            loop {
                let before = COUNT.load(Relaxed);
                let events = engine.step();
                let texts = events.iter().filter(|event| !event.text.is_empty()).count();
                let ends = events.iter().any(|event| event.finish.is_some());
                if round == 1 && begun.iter().all(|begun| *begun) && !ends {
                    counted += (COUNT.load(Relaxed) - before).saturating_sub(texts + 1);
                    tokens += events.len();
                }
                for event in &events {
                    begun[usize::from(Some(event.request) != first)] = true;
                }
                if engine.is_idle() {
                    break;
                }
            }
        }
        assert!(tokens >= 20, "{tokens} tokens");
        assert_eq!(
            counted, 0,
            "allocations of {tokens} tokens of {sequences} sequences beside their events, {draft:?}, temperature {temperature}"
        );
    }
}
