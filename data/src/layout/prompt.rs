//! A prompt as a server saw it, back into system prompt and question. Servers write the rendered chat template, and training on
//! it as if it were the question would put one template inside another.

/// Marks of the widespread templates: before the system prompt, before the question, and after either.
const TEMPLATES: [(&str, &str, &str); 4] = [
    ("<|im_start|>system\n", "<|im_start|>user\n", "<|im_end|>"),
    ("<|start_header_id|>system<|end_header_id|>\n\n", "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
    ("<start_of_turn>system\n", "<start_of_turn>user\n", "<end_of_turn>"),
    ("<|system|>\n", "<|user|>\n", "<|end|>"),
];

/// DeepSeek's template has no mark after the system prompt.
const DEEPSEEK: (&str, &str, &str) = ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>");

/// System prompt and question; none where the prompt has several turns.
pub(super) fn take_apart(prompt: &str) -> Option<(Option<String>, String)> {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    if let Some((before, question)) = prompt.split_once(DEEPSEEK.1) {
        let question = question.split_once(DEEPSEEK.2)?.0;
        let system = before.strip_prefix(DEEPSEEK.0).unwrap_or(before);
        return (!question.contains(DEEPSEEK.1)).then(|| Some((some(system), some(question)?)))?;
    }
    for (system_mark, user_mark, end) in TEMPLATES {
        let Some((before, after)) = prompt.split_once(user_mark) else { continue };
        let (question, rest) = after.split_once(end)?;
        if rest.contains(user_mark) {
            return None;
        }
        let system = before.split_once(system_mark).and_then(|(_, system)| system.split_once(end)).and_then(|(system, _)| some(system));
        return Some((system, some(question)?));
    }
    Some((None, some(prompt)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_template() {
        let cases = [
            (
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n<think>\n",
                Some("Be brief."),
            ),
            (
                "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n1 + 1?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
                None,
            ),
            ("<｜begin▁of▁sentence｜>Be brief.<｜User｜>1 + 1?<｜Assistant｜><think>\n", Some("Be brief.")),
            ("<｜begin▁of▁sentence｜><｜User｜>1 + 1?<｜Assistant｜>", None),
            ("1 + 1?\n", None),
        ];
        for (prompt, system) in cases {
            assert_eq!(take_apart(prompt), Some((system.map(str::to_owned), "1 + 1?".to_owned())), "{prompt}");
        }
        let two = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n";
        assert_eq!(take_apart(two), None);
        assert_eq!(take_apart("  "), None);
    }
}
