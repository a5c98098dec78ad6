//! The `[train.teacher]` table: what the student learns of a teacher besides its text.

use std::path::PathBuf;

use model::ModelConfig;
use serde::{Deserialize, Serialize};

use super::require;
use crate::{Divergence, Error, Lesson, Likeness, Relation};

/// What is learned of a teacher's probabilities: those of a teacher in memory, or those that came with the traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherTable {
    /// The Hugging Face folder of a teacher that has the dataset's tokenizer, or any for the divergence `uld`. Default: none, and
    /// only probabilities that came with the traces are learned.
    pub from: Option<PathBuf>,
    /// Ask the teacher once, before the training, and keep so many of its likeliest tokens in the dataset; then it need not be in
    /// memory beside the student. Default: none, the teacher goes along and gives all its logits.
    pub top_k: Option<usize>,
    /// Share of the divergence in the loss of a token; the rest is cross-entropy. Default 0.5.
    pub share: f64,
    /// Let the share follow the two gradients, so that at the logits the norm of the divergence's is so many times that of the
    /// cross-entropy's. Default: none, the share stays.
    pub balance: Option<f64>,
    /// How student and teacher are compared. Default: `forward_kl`.
    pub divergence: DivergenceName,
    /// For `jensen_shannon`, between 0 (forward) and 1 (reverse). Default 0.5.
    pub beta: f64,
    /// Both distributions are softmax(logits / temperature). Default 1.
    pub temperature: f64,
    /// Bring the residual stream after the last block near the teacher's, which has the same width. Default: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<HiddenTable>,
    /// Relate the tokens as a block of the teacher does. Default: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relation: Option<RelationTable>,
}

/// How near the residual stream is to come to the teacher's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HiddenTable {
    /// How two states are compared.
    pub likeness: Likeness,
    /// What the loss of a token is multiplied with.
    pub weight: f64,
}

/// Which relations between tokens are to come near to the teacher's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationTable {
    /// How two tokens are related.
    pub relation: Relation,
    /// Heads that the queries, keys and values of both are cut into.
    pub heads: usize,
    /// The student's block, from 0.
    pub block: usize,
    /// The teacher's.
    pub teacher_block: usize,
    /// What the loss of a token is multiplied with.
    pub weight: f64,
}

/// How student and teacher are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergenceName {
    /// KL(teacher || student).
    ForwardKl,
    /// KL(student || teacher).
    ReverseKl,
    /// Generalised Jensen-Shannon with `beta`.
    JensenShannon,
    /// Reverse where the teacher is sure of the target, forward where it is not.
    Confidence,
    /// Experimental, for a teacher with another tokenizer: the ranked probabilities of both, where its tokens end at the same byte
    /// as the student's. Elsewhere there is cross-entropy alone.
    Uld,
}

impl Default for TeacherTable {
    fn default() -> TeacherTable {
        TeacherTable {
            from: None,
            top_k: None,
            share: 0.5,
            balance: None,
            divergence: DivergenceName::ForwardKl,
            beta: 0.5,
            temperature: 1.0,
            hidden: None,
            relation: None,
        }
    }
}

/// The most tokens that can be kept of a teacher's distribution.
const MOST: usize = 1024;

impl TeacherTable {
    /// The lesson of each token.
    pub fn lesson(&self) -> Lesson {
        let divergence = match self.divergence {
            DivergenceName::ForwardKl => Divergence::Forward,
            DivergenceName::ReverseKl => Divergence::Reverse,
            DivergenceName::JensenShannon => Divergence::JensenShannon { beta: self.beta as f32 },
            DivergenceName::Confidence => Divergence::Confidence,
            DivergenceName::Uld => Divergence::Uld,
        };
        Lesson { share: self.share as f32, divergence, temperature: self.temperature as f32 }
    }

    /// The folder of a teacher that goes along with the training.
    pub fn beside(&self) -> Option<&PathBuf> {
        self.from.as_ref().filter(|_| self.top_k.is_none())
    }

    /// Whether inner states are learned.
    pub fn has_states(&self) -> bool {
        self.hidden.is_some() || self.relation.is_some()
    }

    /// The first setting of inner states that cannot be between a student and a teacher of these sizes.
    pub fn check_for(&self, student: &ModelConfig, teacher: &ModelConfig) -> Result<(), Error> {
        let refuse = |key: &'static str, found: usize, needed: String| Err(Error::Config { key, found: found.to_string(), needed });
        if self.hidden.is_some() && student.width != teacher.width {
            let needed = format!("but the student's width is {} and states are compared number by number; learn relations", student.width);
            return refuse("teacher.hidden", teacher.width, needed);
        }
        if let Some(relation) = &self.relation {
            let blocks =
                [("teacher.relation.block", relation.block, student), ("teacher.relation.teacher_block", relation.teacher_block, teacher)];
            for (key, block, config) in blocks {
                if block >= config.layers {
                    return refuse(key, block, format!("which is not below the {} blocks there are", config.layers));
                }
            }
            let widths = [student.query_width(), student.kv_width(), teacher.query_width(), teacher.kv_width()];
            if relation.heads == 0 || widths.iter().any(|width| !width.is_multiple_of(relation.heads)) {
                let needed = format!("which does not divide all of {widths:?}, the widths of the queries and keys of both");
                return refuse("teacher.relation.heads", relation.heads, needed);
            }
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let unit = "which is not between 0 and 1";
        require((0.0..=1.0).contains(&self.share), "teacher.share", self.share, unit.into())?;
        require((0.0..=1.0).contains(&self.beta), "teacher.beta", self.beta, unit.into())?;
        let tau = self.temperature;
        require(tau.is_finite() && tau > 0.0, "teacher.temperature", tau, "which is not a positive number".into())?;
        if let Some(balance) = self.balance {
            require(balance.is_finite() && balance > 0.0, "teacher.balance", balance, "which is not a positive number".into())?;
        }
        let weights = [("teacher.hidden.weight", self.hidden.as_ref().map(|table| table.weight))]
            .into_iter()
            .chain([("teacher.relation.weight", self.relation.as_ref().map(|table| table.weight))]);
        for (key, weight) in weights.filter_map(|(key, weight)| Some((key, weight?))) {
            require(weight.is_finite() && weight > 0.0, key, weight, "which is not a positive number".into())?;
            require(
                self.beside().is_some(),
                key,
                weight,
                "but states need a teacher beside the student: train.teacher.from without top_k".into(),
            )?;
        }
        require(
            self.divergence != DivergenceName::Uld || self.beside().is_some(),
            "teacher.divergence",
            "uld",
            "but that ranks all of a teacher's probabilities and needs one beside the student: train.teacher.from without top_k".into(),
        )?;
        if let Some(top_k) = self.top_k {
            require((1..=MOST).contains(&top_k), "teacher.top_k", top_k, format!("which is not between 1 and {MOST}"))?;
            require(self.from.is_some(), "teacher.top_k", top_k, "but there is no teacher to ask; say which in train.teacher.from".into())?;
        }
        Ok(())
    }
}
