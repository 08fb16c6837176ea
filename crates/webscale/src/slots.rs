//! The connections of one loop, found by a number that goes stale.

/// Where a value lies, and which of the values that lay there it is. A token of a value that was removed never
/// finds the one that took its place: the kernel may still report an event of a descriptor that was closed earlier
/// in the same batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    pub(crate) const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    pub(crate) const fn from_u64(value: u64) -> Self {
        Self { index: value as u32, generation: (value >> 32) as u32 }
    }
}

/// Values in slots; each slot counts how often it was emptied. A value has an allocation of its own, so that the
/// table itself stays small and an empty slot costs 16 bytes.
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::expect_used,
        reason = "the index was just made or freed; descriptors are fewer than 2^32"
    )]
    pub(crate) fn insert(&mut self, value: T) -> Token {
        self.len += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            u32::try_from(self.slots.len() - 1).expect("fewer connections than 2^32")
        });
        let slot = &mut self.slots[index as usize];
        slot.value = Some(Box::new(value));
        Token { index, generation: slot.generation }
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let slot = self.slots.get_mut(token.index as usize)?;
        if slot.generation == token.generation { slot.value.as_deref_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<Box<T>> {
        let slot = self.slots.get_mut(token.index as usize)?;
        if slot.generation != token.generation {
            return None;
        }
        let value = slot.value.take()?;
        // A slot whose generations are used up stays empty: a token must not come to mean another value.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(token.index);
        }
        self.len -= 1;
        Some(value)
    }

    /// The tokens of all values, for a walk during which values may go.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        self.iter().map(|(token, _)| token).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let token = Token { index: u32::try_from(index).ok()?, generation: slot.generation };
            Some((token, slot.value.as_deref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_token_misses_the_value_that_took_its_place() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first).as_deref(), Some(&"first"));
        let second = slots.insert("second");
        assert_eq!(first.index, second.index);
        assert!(slots.get_mut(first).is_none() && slots.remove(first).is_none());
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!((slots.len(), slots.tokens()), (1, vec![second]));
    }

    #[test]
    fn a_slot_is_given_up_when_its_generations_are_used_up() {
        let mut slots = Slots::new();
        let first = slots.insert(0);
        slots.remove(first);
        slots.slots[0].generation = u32::MAX;
        let last = slots.insert(1);
        assert_eq!((last, slots.remove(last)), (Token { index: 0, generation: u32::MAX }, Some(Box::new(1))));
        let next = slots.insert(2);
        assert_eq!(next, Token { index: 1, generation: 0 });
        assert!(
            slots.get_mut(first).is_none() && slots.get_mut(last).is_none() && slots.remove(last).is_none()
        );
        assert_eq!((slots.len(), slots.tokens()), (1, vec![next]));
    }

    #[test]
    fn a_token_survives_its_number() {
        let token = Token { index: 7, generation: u32::MAX };
        assert_eq!(Token::from_u64(token.to_u64()), token);
    }
}
