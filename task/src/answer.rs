//! An answer is an exact rational number, not a string: `1,234`, `$1234.00` and `\frac{2468}{2}` are the same answer.
//!
//! What has no exact rational value that one could defend (multiples of π, expressions, two numbers side by side, separators
//! that two countries read differently) is [`Unverifiable`] and never guessed.
//!
//! **A point alone is a decimal point, a comma alone separates thousands: `1.234` is less than two, `1,234` is more than a thousand.**
//! Other notations are read where only one number can be meant: `1.234.567`, `1.234,56`, `1'234.56`, `12,34,567`.
//!
//! **A percent sign is a unit, like a dollar sign: `50%` reads as 50.** Sets in the manner of GSM8K ask "what percentage" and store `50`,
//! and students answer `50%` or `50`. Giving every text exactly one value keeps equality an equivalence, which majority votes need;
//! the price is that `50%` does not agree with a reference of `0.5`. Units are left out and never converted: `50 cents` is 50.

mod lexer;
mod literal;
mod plain;
mod slot;
mod vocabulary;
mod words;

use std::fmt;
use std::hash::{Hash, Hasher};

use num_rational::BigRational;
use num_traits::Zero;

pub(crate) use literal::closing_brace;
pub(crate) use plain::{Plain, plain};
pub(crate) use slot::{Strictness, last_number, slot_in, whole};
pub(crate) use vocabulary::number_in_words;

/// The most digits one number may have; a longer one is [`Unverifiable::TooLong`]. No problem set comes near, and the arithmetic on a
/// number of this length takes microseconds.
pub const MAX_DIGITS: usize = 1000;

/// The largest power of ten, in either direction, that scientific notation may name.
pub const MAX_EXPONENT: u32 = 1000;

/// An exact number, and how it was written.
///
/// Two answers are equal when they are the same number, however written.
#[derive(Clone, Debug)]
pub struct Answer {
    value: BigRational,
    form: Form,
}

/// How an answer was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `1234`, `1,234`, `-7`, `3 million`, `twenty-five`.
    Integer,
    /// `0.5`, `.5`, `18.00`.
    Decimal,
    /// `3/4`, `\frac{3}{4}`, `¾`.
    Fraction,
    /// `1 3/4`, `1\frac{3}{4}`.
    Mixed,
    /// `50%`, `50\%`, `50 percent`; the value is 50.
    Percent,
    /// `1.5e3`, `1.5 \times 10^{3}`.
    Scientific,
}

/// Why a text that stands where an answer should stand is not read as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unverifiable {
    /// Words that are no number, or a letter of a choice.
    #[error("the answer holds no number")]
    NoNumber,
    /// An operator, a variable, a root, a power or a multiple of π that is not worked out.
    #[error("the answer is an expression, not a number")]
    Expression,
    /// A list, a point, an interval, a time such as `2 hours 30 minutes`.
    #[error("the answer holds several numbers")]
    SeveralNumbers,
    /// `1,23` or `1,2,3` or `5 and a half`: readers would differ.
    #[error("the number can be read in more than one way")]
    Ambiguous,
    /// More than [`MAX_DIGITS`] digits, or an exponent beyond [`MAX_EXPONENT`].
    #[error("the number has more than {MAX_DIGITS} digits")]
    TooLong,
    /// `5/0`.
    #[error("the fraction has a denominator of zero")]
    ZeroDenominator,
}

impl Answer {
    /// Reads a text that is an answer and nothing else, such as the content of a `\boxed{}` or a reference.
    pub fn parse(text: &str) -> Result<Answer, Unverifiable> {
        let plain = plain(text);
        let text = plain.as_ref().map_or(text, |plain| plain.text.as_str());
        slot_in(text, Strictness::Mathematics).map(|(answer, _)| answer)
    }

    /// The number itself, in lowest terms.
    pub fn value(&self) -> &BigRational {
        &self.value
    }

    /// How it was written.
    pub fn form(&self) -> Form {
        self.form
    }

    pub(crate) fn new(value: BigRational, form: Form) -> Answer {
        Answer { value, form }
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Answer) -> bool {
        self.value == other.value
    }
}

impl Eq for Answer {}

impl Hash for Answer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.numer().hash(state);
        self.value.denom().hash(state);
    }
}

/// The number in its shortest exact form: `18`, `-7/2`.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_zero() {
            return f.write_str("0");
        }
        write!(f, "{}", self.value)
    }
}
