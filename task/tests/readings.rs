//! Where a text says its final answer, as tables: by which rule it is found, what is refused rather than guessed, and how it is marked.

use tristill_task::{Reading, Rule, Unverifiable, Verdict, mark, read};

/// The rule, and the value or the reason.
fn found(text: &str) -> Option<(Rule, Result<String, Unverifiable>)> {
    match read(text) {
        Reading::Number { answer, rule, span } => {
            assert!(text.get(span.clone()).is_some(), "{text:?}: {span:?} is not a span of it");
            Some((rule, Ok(answer.to_string())))
        }
        Reading::Unverifiable { why, rule, span } => {
            assert!(text.get(span.clone()).is_some(), "{text:?}: {span:?} is not a span of it");
            Some((rule, Err(why)))
        }
        Reading::Absent => None,
    }
}

#[test]
fn the_final_answer_is_found() {
    use Rule::{Boxed, Hashes, Json, LastNumber, Phrase, Whole};
    let table = [
        // Hashes.
        ("16 - 7 = 9\n#### 9", Hashes, "9"),
        ("She has 9.\n####9", Hashes, "9"),
        ("#### $1,234.50 per day.", Hashes, "2469/2"),
        ("#### 1\n#### 2", Hashes, "2"),
        ("#### 18\n\n#### Check\n2 + 2", Hashes, "18"),
        ("#### 1. Find the eggs\n16\n#### 2. Sell them\n9 * 2 = 18 dollars.\n#### 18", Hashes, "18"),
        ("#### Final: **18**", Hashes, "18"),
        ("#### $18 per day (9 eggs x $2)", Hashes, "18"),
        ("##### 5\n the answer is 6", Phrase, "6"),
        // Boxes.
        ("So \\boxed{3} and \\boxed{\\frac{3}{4}}.", Boxed, "3/4"),
        ("\\boxed{18 \\text{ dollars}}", Boxed, "18"),
        ("\\boxed {5}", Boxed, "5"),
        ("\\boxed{5} and then \\boxed{6", Boxed, "5"),
        ("$$\\boxed{1{,}234}$$ The answer is 7.", Boxed, "1234"),
        ("It is \\boxed{5}, and goes into \\boxed{}.", Boxed, "5"),
        // JSON.
        ("{\"answer\": 18, \"count\": 3}", Json, "18"),
        ("{\"answer\": 1,234}", Json, "1234"),
        ("{\"answer\": \"Rs. 500\"}", Json, "500"),
        ("There are 4: {\"answer\": \"\"}", LastNumber, "4"),
        ("{\"reasoning\": \"The answer is 3\", \"answer\": \"18\"}", Json, "18"),
        ("{\"answer\": 18}", Json, "18"),
        ("{\"answer\": 18, \"unit\": \"eggs\"}", Json, "18"),
        ("{\"answer\": \"$1,200\"}", Json, "1200"),
        ("{\"answer\": \"18", Json, "18"),
        ("{\"final_answer\": \"\\\\frac{3}{4}\"}", Json, "3/4"),
        ("{\"answer\": \"\\u00bd\"}", Json, "1/2"),
        ("{\"answer\": [18]}", Json, "18"),
        ("{\"answer\": \"twenty-one\"}", Json, "21"),
        // Phrases.
        ("The answer is 18.", Phrase, "18"),
        ("The final answer is: **18**", Phrase, "18"),
        ("**Final Answer:** 18 dollars", Phrase, "18"),
        ("### Final Answer:\n18", Phrase, "18"),
        ("Answer:\n- 18 eggs", Phrase, "18"),
        ("Answer:\n-18", Phrase, "-18"),
        ("The answer is eighteen.", Phrase, "18"),
        ("The answer is eighteen (18).", Phrase, "18"),
        ("The answer is eight.\n\nThere were 3 eggs.", Phrase, "8"),
        ("There are seven days in a week, so 7 * 2 = 14", LastNumber, "14"),
        ("ANSWER: $18.50.", Phrase, "37/2"),
        ("The answer is 18 because 9 * 2 = 18 and 7 is left.", Phrase, "18"),
        ("The answer is 9 * 2 = 18.", Phrase, "18"),
        ("The answer to the question is 18. There were 16 eggs.", Phrase, "18"),
        ("Therefore, the answer is <203>.", Phrase, "203"),
        ("The answer is 5. No, the answer is 6.", Phrase, "6"),
        ("The answer is 18 (option C).", Phrase, "18"),
        ("The answer is 18 - that is what she makes.", Phrase, "18"),
        ("The answer is (C) 960.", Phrase, "960"),
        ("Half of 4 is 2.\nA: 2", Phrase, "2"),
        ("Q: how many?\nA: 2 + 2 = 4", Phrase, "4"),
        // A text that is the answer.
        ("18", Whole, "18"),
        ("# 18", Whole, "18"),
        (" -18\n", Whole, "-18"),
        ("1 3/4", Whole, "7/4"),
        ("18 dollars", Whole, "18"),
        ("18 is the answer, not 7", Whole, "18"),
        ("18 eggs (16 + 2)", Whole, "18"),
        ("10% of 180 is 18.", LastNumber, "18"),
        ("9 eggs at $2 each make $18.", LastNumber, "18"),
        ("#### 18 = 9 * 2", Hashes, "18"),
        ("The answer is 18 = 9 * 2.", Phrase, "18"),
        ("$x = 5$", Whole, "5"),
        // The last number.
        ("She sells 9 eggs and makes $18 a day.", LastNumber, "18"),
        ("I have 3 apples.\n\nSo do you, twice.", LastNumber, "3"),
        ("- 5 apples\n- 6 pears\nIn total:\n- 11 fruits", LastNumber, "11"),
        ("The temperature fell to -5 degrees.", LastNumber, "-5"),
        ("It fell to minus 5 degrees", LastNumber, "-5"),
        ("He got 16 - 7 = <<16-7=9>>9 eggs left", LastNumber, "9"),
        ("The answer is obvious. There are 12 of them.", LastNumber, "12"),
        ("They are 1 3/4 cups in all", LastNumber, "7/4"),
        ("Only 42... I think", LastNumber, "42"),
        ("GPT-4 says it is 7", LastNumber, "7"),
        ("He has 7 of type H2O", LastNumber, "7"),
        ("1. She has 16 eggs.\n2. She eats 7.\n3. That leaves some.", LastNumber, "7"),
        ("答えは18です", LastNumber, "18"),
        // Marks around the answer.
        ("<answer> 18 eggs </answer>", Whole, "18"),
        ("It is 3.\n<answer>The answer is 18.</answer> There were 5.", Phrase, "18"),
        ("<think>a</think><answer>\\boxed{18}</answer>", Boxed, "18"),
        ("Put it into </answer> like 5.", LastNumber, "5"),
        ("The answer is <b>18</b>.", Phrase, "18"),
        ("Answer: 18, not 20.", Phrase, "18"),
        ("The answer is 18.The rest is 3.", Phrase, "18"),
        ("The answer -- 18 apples", LastNumber, "18"),
        ("The answer => 18", Phrase, "18"),
        ("Final answer → 18", Phrase, "18"),
        ("The answer is **18**.", Phrase, "18"),
        ("The answer is *$18*, I think.", Phrase, "18"),
        ("It makes **+18**.", LastNumber, "18"),
        ("答案：１８。", LastNumber, "18"),
        // Reasoning does not count.
        ("<think>\nThe answer is 3\n</think>\nIt is 4 apples.", LastNumber, "4"),
        ("#### 3 </think> 4", Whole, "4"),
    ];
    for (text, rule, value) in table {
        assert_eq!(found(text), Some((rule, Ok(value.to_owned()))), "{text:?}");
    }
}

#[test]
fn an_answer_that_is_no_number_is_not_guessed_from_its_surroundings() {
    use Rule::{Boxed, Hashes, Json, LastNumber, Phrase, Whole};
    use Unverifiable::{Ambiguous, Expression, NoNumber, SeveralNumbers};
    let table = [
        ("5 > 3\n#### yes", Hashes, NoNumber),
        ("r = 1\n\\boxed{2\\pi}", Boxed, Expression),
        ("There are 4. \\boxed{\\text{blue}}", Boxed, NoNumber),
        ("{\"answer\": \"27 selfies and 18 portraits\"}", Json, SeveralNumbers),
        ("The answer is 3 hours and 20 minutes.", Phrase, SeveralNumbers),
        ("The answer is 5 + 3", Phrase, Expression),
        ("The answer is 5x.", Phrase, Expression),
        ("2 + 2 = 4. The answer is half. It is.", Phrase, NoNumber),
        ("{\"answer\": [18, 20]}", Json, SeveralNumbers),
        ("The answer is 18 (or 20).", Phrase, SeveralNumbers),
        ("The answer is less than 5.", Phrase, Expression),
        ("The answer is five or six.", Phrase, SeveralNumbers),
        ("The answer is seven eggs and two hens.", Phrase, SeveralNumbers),
        ("The answer is two and a half.", Phrase, Ambiguous),
        ("The answer is seventeen point five.", Phrase, Ambiguous),
        ("The answer is one of them.", Phrase, NoNumber),
        ("There are two ways to see this.", LastNumber, NoNumber),
        ("It is 16 minus 7", LastNumber, Expression),
        ("That is x minus 7", LastNumber, Expression),
        ("It is her age minus 7", LastNumber, Expression),
        ("He had 16 eggs minus 7", LastNumber, Expression),
        ("16 - (7)", Whole, Expression),
        ("There are 4. The answer is blue.", Phrase, NoNumber),
        ("She has eighteen eggs", LastNumber, NoNumber),
        ("x is 5 or 6", LastNumber, SeveralNumbers),
        ("so x = 3 and y = 4.", LastNumber, SeveralNumbers),
        ("The answer is half of 18.", Phrase, Expression),
        ("It is twice 5", LastNumber, Expression),
        ("It is 5/x", LastNumber, Expression),
        ("#### 5 = 2x", Hashes, Expression),
        ("18 is 10% of 180", LastNumber, Expression),
        ("He ate 2/3 of 18", LastNumber, Expression),
        ("That makes 50% of 18.", LastNumber, Expression),
        ("2\\pi", Whole, Expression),
        ("(3, 4)", Whole, SeveralNumbers),
        ("2 hours 30 minutes", Whole, SeveralNumbers),
        ("It costs 10 + 5", LastNumber, Expression),
        ("The area of the circle is 9π", LastNumber, Expression),
        ("It takes 2 hours and 30 minutes.", LastNumber, SeveralNumbers),
        ("It takes 2 and a half hours, so 2 and a half", LastNumber, Ambiguous),
    ];
    for (text, rule, why) in table {
        assert_eq!(found(text), Some((rule, Err(why))), "{text:?}");
    }
}

#[test]
fn there_may_be_no_answer() {
    for text in [
        "",
        " \n",
        "I do not know.",
        "<think>\nIt is 5",
        "<think>a</think>5<think>6",
        "<think>5</think>",
        "####",
        "x",
        "5 <answer></answer>",
    ] {
        assert_eq!(found(text), None, "{text:?}");
    }
}

/// Answers in the forms that models write, decided by the definition: what was said, and the number in lowest
/// terms, or that it is no exact number, or that there is none.
#[test]
fn answers_are_read_as_the_definition_says() {
    let cases = include_str!("fixtures/answers.jsonl").lines().map(|line| serde_json::from_str::<[String; 2]>(line).unwrap());
    let mut differ = Vec::new();
    for [text, expected] in cases {
        let read = match read(&text) {
            Reading::Number { answer, .. } => answer.to_string(),
            Reading::Unverifiable { .. } => "unverifiable".to_owned(),
            Reading::Absent => "absent".to_owned(),
        };
        if read != expected {
            differ.push(format!("{text:?} is {expected}, not {read}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn marks() {
    use Verdict::{NoAnswer, Right, Unverifiable, Wrong};
    let table = [
        ("#### 18", "x\n#### 18", Right),
        ("The answer is $18.00.", "18", Right),
        ("\\boxed{\\frac{1}{2}}", "0.5", Right),
        ("0.333", "1/3", Wrong),
        ("0.3333333333333333333333333333333", "1/3", Wrong),
        ("50%", "50", Right),
        ("50%", "0.5", Wrong),
        ("1,234,567,890,123,456,789,012", "1234567890123456789013", Wrong),
        ("0.1", "0.1000000000000000055511151231257827", Wrong),
        ("nothing", "18", NoAnswer),
        ("<think>18", "18", NoAnswer),
        ("\\boxed{2\\pi}", "6", Unverifiable),
        ("6", "\\boxed{2\\pi}", Unverifiable),
        ("nothing", "\\boxed{2\\pi}", Unverifiable),
        ("", "", Unverifiable),
    ];
    for (completion, reference, verdict) in table {
        assert_eq!(mark(completion, reference), verdict, "{completion:?} against {reference:?}");
    }
}
