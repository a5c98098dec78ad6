//! Who and what the word problems are about. Every noun carries its own plural, so that no template ever has to guess one.

/// A thing that can be counted, in the singular and in the plural.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noun {
    pub one: &'static str,
    pub many: &'static str,
}

const fn noun(one: &'static str, many: &'static str) -> Noun {
    Noun { one, many }
}

/// Which things a template speaks of: nobody eats a pencil, and nobody plants a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Things {
    /// Small things to own, swap and put in boxes.
    Keepsakes,
    /// Things to eat.
    Food,
    /// Things in a shop window with a price on them.
    Goods,
    /// Things to plant in rows.
    Plants,
    /// Animals on a farm.
    Animals,
    /// Things to read.
    Reading,
}

impl Things {
    pub(super) fn all(self) -> &'static [Noun] {
        match self {
            Things::Keepsakes => KEEPSAKES,
            Things::Food => FOOD,
            Things::Goods => GOODS,
            Things::Plants => PLANTS,
            Things::Animals => ANIMALS,
            Things::Reading => READING,
        }
    }
}

/// Women and girls.
pub(super) const SHE: &[&str] = &[
    "Mia", "Ava", "Zoe", "Lena", "Nora", "Ruth", "Ida", "Clara", "Emma", "Alice", "Maria", "Sofia", "Hana", "Yuki", "Priya", "Leila",
    "Amina", "Rosa", "Elena", "Greta", "Julia", "Kate", "Sara", "Tina", "Wendy", "Olga",
];

/// Men and boys.
pub(super) const HE: &[&str] = &[
    "Ben", "Tom", "Leo", "Max", "Sam", "Omar", "Ivan", "Noah", "Paul", "Peter", "David", "Daniel", "Felix", "Hugo", "Jack", "Karl", "Liam",
    "Marco", "Erik", "Oscar", "Ravi", "Simon", "Theo", "Viktor", "Adam", "Kofi",
];

pub(super) const KEEPSAKES: &[Noun] = &[
    noun("sticker", "stickers"),
    noun("marble", "marbles"),
    noun("shell", "shells"),
    noun("stamp", "stamps"),
    noun("coin", "coins"),
    noun("card", "cards"),
    noun("bead", "beads"),
    noun("button", "buttons"),
    noun("pencil", "pencils"),
    noun("crayon", "crayons"),
    noun("pen", "pens"),
    noun("stone", "stones"),
    noun("balloon", "balloons"),
    noun("ribbon", "ribbons"),
    noun("badge", "badges"),
    noun("feather", "feathers"),
    noun("key ring", "key rings"),
    noun("toy car", "toy cars"),
    noun("paper clip", "paper clips"),
    noun("leaf", "leaves"),
    noun("candle", "candles"),
    noun("tennis ball", "tennis balls"),
];

pub(super) const FOOD: &[Noun] = &[
    noun("apple", "apples"),
    noun("pear", "pears"),
    noun("orange", "oranges"),
    noun("plum", "plums"),
    noun("peach", "peaches"),
    noun("lemon", "lemons"),
    noun("cherry", "cherries"),
    noun("strawberry", "strawberries"),
    noun("walnut", "walnuts"),
    noun("cookie", "cookies"),
    noun("muffin", "muffins"),
    noun("cupcake", "cupcakes"),
    noun("pancake", "pancakes"),
    noun("candy", "candies"),
    noun("bun", "buns"),
    noun("bagel", "bagels"),
    noun("sandwich", "sandwiches"),
    noun("dumpling", "dumplings"),
    noun("carrot", "carrots"),
    noun("potato", "potatoes"),
    noun("tomato", "tomatoes"),
    noun("egg", "eggs"),
];

pub(super) const GOODS: &[Noun] = &[
    noun("shirt", "shirts"),
    noun("hat", "hats"),
    noun("scarf", "scarves"),
    noun("lamp", "lamps"),
    noun("mug", "mugs"),
    noun("notebook", "notebooks"),
    noun("pillow", "pillows"),
    noun("towel", "towels"),
    noun("kite", "kites"),
    noun("puzzle", "puzzles"),
    noun("board game", "board games"),
    noun("vase", "vases"),
    noun("clock", "clocks"),
    noun("basket", "baskets"),
    noun("umbrella", "umbrellas"),
    noun("backpack", "backpacks"),
    noun("blanket", "blankets"),
    noun("teddy bear", "teddy bears"),
    noun("watch", "watches"),
    noun("picture frame", "picture frames"),
];

pub(super) const PLANTS: &[Noun] = &[
    noun("tulip", "tulips"),
    noun("rose", "roses"),
    noun("daisy", "daisies"),
    noun("lily", "lilies"),
    noun("sunflower", "sunflowers"),
    noun("pine tree", "pine trees"),
    noun("apple tree", "apple trees"),
    noun("bush", "bushes"),
    noun("cabbage", "cabbages"),
    noun("tomato plant", "tomato plants"),
];

pub(super) const ANIMALS: &[Noun] = &[
    noun("hen", "hens"),
    noun("duck", "ducks"),
    noun("goose", "geese"),
    noun("sheep", "sheep"),
    noun("goat", "goats"),
    noun("cow", "cows"),
    noun("pig", "pigs"),
    noun("horse", "horses"),
    noun("pony", "ponies"),
    noun("rabbit", "rabbits"),
    noun("turkey", "turkeys"),
];

pub(super) const READING: &[Noun] = &[
    noun("book", "books"),
    noun("comic", "comics"),
    noun("magazine", "magazines"),
    noun("story", "stories"),
    noun("poem", "poems"),
    noun("newspaper", "newspapers"),
];

/// What small things are kept in.
pub(super) const CONTAINERS: &[Noun] = &[
    noun("box", "boxes"),
    noun("bag", "bags"),
    noun("basket", "baskets"),
    noun("crate", "crates"),
    noun("bowl", "bowls"),
    noun("tin", "tins"),
    noun("bucket", "buckets"),
    noun("sack", "sacks"),
];

/// Where things are bought and sold; each follows the word "at".
pub(super) const PLACES: &[&str] =
    &["the market", "the fair", "the corner shop", "the school sale", "a flea market", "the village store", "the mall"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const THINGS: [Things; 6] = [Things::Keepsakes, Things::Food, Things::Goods, Things::Plants, Things::Animals, Things::Reading];

    #[test]
    fn names_and_nouns_are_many_and_distinct() {
        let names: HashSet<_> = SHE.iter().chain(HE).collect();
        assert_eq!(names.len(), SHE.len() + HE.len(), "a name stands twice");
        assert!(names.len() >= 40);
        let nouns: HashSet<_> = THINGS.iter().flat_map(|things| things.all()).map(|noun| noun.one).collect();
        assert_eq!(nouns.len(), THINGS.iter().map(|things| things.all().len()).sum::<usize>());
        assert!(nouns.len() >= 40);
    }

    #[test]
    fn possessives_need_no_special_case() {
        for name in SHE.iter().chain(HE).filter(|name| name.ends_with('s')) {
            assert!(["Erik", "Olga"].contains(name), "{name}'s reads badly");
        }
    }
}
