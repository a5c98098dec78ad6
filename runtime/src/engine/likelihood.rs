//! Texts that are given: the logits after each of their tokens, and how likely these are.

use super::Engine;
use crate::{
    Error,
    cache::Cache,
    kernel::PAGE,
    layer::log_sum_exp,
    network::{Needed, Row},
};

/// Rows of a step whose logits are all wanted.
const ROWS: usize = 64;

impl Engine {
    /// The logits after each token of a text, `[tokens, vocabulary]`: 4 bytes each, all in one piece.
    ///
    /// # Errors
    /// [`Error::Cache`] also where requests that run have the rest of the cache.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let mut all = Vec::new();
        self.score(tokens, 0, |_, logits| all.extend_from_slice(logits))?;
        Ok(all)
    }

    /// The log-probability of each token of a text from the `from`-th on, given those before it. The first token of a text has
    /// none, so `from` is at least 1; from the last on there is nothing to say. What the cache knows of the tokens before is not computed
    /// again, so that several ends of one text are cheap.
    ///
    /// # Errors
    /// As [`Engine::logits`].
    pub fn log_likelihood(&mut self, tokens: &[u32], from: usize) -> Result<Vec<f32>, Error> {
        if from == 0 {
            return Err(Error::Request("for the likelihood of the first token: nothing stands before it".into()));
        }
        let mut all = Vec::new();
        self.score(tokens, from - 1, |place, logits| {
            if let Some(next) = tokens.get(place + 1) {
                all.push((f64::from(logits[*next as usize]) - log_sum_exp(logits)) as f32);
            }
        })?;
        Ok(all)
    }

    /// Run a text and look at the logits after each token from the `from`-th on.
    fn score(&mut self, tokens: &[u32], from: usize, mut look: impl FnMut(usize, &[f32])) -> Result<(), Error> {
        self.check_tokens(tokens)?;
        let config = self.student.config();
        if tokens.len() > config.context {
            return Err(Error::Text { found: tokens.len(), limit: config.context });
        }
        // What is looked at has to be computed.
        let (mut pages, mut known) = self.cache.find(&tokens[..tokens.len().min(from + 1)]);
        let missing = Cache::pages_for(tokens.len()) - pages.len();
        if missing > self.cache.available() {
            let limit = (pages.len() + self.cache.available()) * PAGE;
            self.cache.give_back(pages);
            return Err(Error::Cache { needed: tokens.len(), limit });
        }
        (0..missing).for_each(|_| self.cache.take(&mut pages));
        for start in (known.pages * PAGE..tokens.len()).step_by(ROWS) {
            let row = |position: usize| Row { token: tokens[position], position, sequence: 0, wants_logits: position >= from };
            let rows: Vec<Row> = (start..tokens.len().min(start + ROWS)).map(row).collect();
            let logits = self.student.network.forward(&mut self.cache, (&rows, Needed::All), &|_| &pages, &mut self.work);
            for (place, logits) in (start.max(from)..).zip(logits.chunks_exact(config.vocab)) {
                look(place, logits);
            }
        }
        self.cache.remember(&pages, tokens, &mut known);
        self.cache.give_back(pages);
        Ok(())
    }
}
