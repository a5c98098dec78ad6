//! What can go wrong between a packed file and its tokens.

/// Why a student could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An instruction set that does not exist or that this CPU lacks.
    #[error("TRISTILL_ISA is {name:?}, which this CPU cannot run; it can run {supported}")]
    Isa {
        /// What was asked for.
        name: String,
        /// What this CPU has, separated by commas.
        supported: String,
    },
}
