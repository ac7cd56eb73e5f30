//! The catalogue: every subset of the five layers, with and without the pool in front; and, where they are asked for,
//! those with hedge, fallback, coalesce, keyed or chaos in them.

use std::{fmt, str::FromStr};

use regex::Regex;

/// One of the 64 stacks, or one with newer layers in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Combo {
    /// The pool in front.
    pub pool: bool,
    /// The fallback.
    pub fallback: bool,
    /// Callers that share a call.
    pub coalesce: bool,
    /// The retry.
    pub retry: bool,
    /// The hedge.
    pub hedge: bool,
    /// Everything from here to the timeout for each key.
    pub keyed: bool,
    /// The circuit breaker.
    pub breaker: bool,
    /// The rate limit.
    pub rate: bool,
    /// The concurrency limit.
    pub limit: bool,
    /// The timeout of an attempt.
    pub timeout: bool,
    /// The chaos, switched off.
    pub chaos: bool,
}

/// The parts of a stack, outermost first.
pub const PARTS: [&str; 11] = [
    "pool", "fallback", "coalesce", "retry", "hedge", "keyed", "breaker", "rate", "limit",
    "timeout", "chaos",
];

/// What the stack without any layer is called.
pub const BARE: &str = "bare";

// === impl Combo ===

impl Combo {
    /// Without any layer.
    pub const BARE: Self = Self::from_bits(0);

    /// The five layers and the pool.
    pub const FULL: Self = Self::from_bits(0b11_1111);

    const fn from_bits(bits: u16) -> Self {
        Self {
            timeout: bits & 1 != 0,
            limit: bits & 2 != 0,
            rate: bits & 4 != 0,
            breaker: bits & 8 != 0,
            retry: bits & 16 != 0,
            pool: bits & 32 != 0,
            hedge: bits & 64 != 0,
            fallback: bits & 128 != 0,
            coalesce: bits & 256 != 0,
            chaos: bits & 512 != 0,
            keyed: bits & 1_024 != 0,
        }
    }

    /// All 64: first those without the pool, then those with it; fewer layers before more.
    pub fn all() -> Vec<Self> {
        Self::sorted(64)
    }

    /// Those and all that have a newer layer in them: 2,048, in the same order.
    fn every() -> Vec<Self> {
        Self::sorted(2_048)
    }

    fn sorted(end: u16) -> Vec<Self> {
        let mut combos: Vec<_> = (0..end).map(Self::from_bits).collect();
        combos.sort_by_key(|combo| (combo.pool, combo.layers()));
        combos
    }

    /// Whether it is none of the 64.
    pub fn has_newer(self) -> bool {
        self.hedge || self.fallback || self.coalesce || self.keyed || self.chaos
    }

    /// Which of [`PARTS`] are in it.
    pub fn has(self) -> [bool; 11] {
        [
            self.pool,
            self.fallback,
            self.coalesce,
            self.retry,
            self.hedge,
            self.keyed,
            self.breaker,
            self.rate,
            self.limit,
            self.timeout,
            self.chaos,
        ]
    }

    /// How many layers there are, without the pool.
    pub fn layers(self) -> usize {
        self.has()[1..].iter().filter(|has| **has).count()
    }

    /// The names of what is in it, outermost first.
    pub fn parts(self) -> impl Iterator<Item = &'static str> {
        PARTS.into_iter().zip(self.has()).filter_map(|(part, has)| has.then_some(part))
    }

    /// The way from bare to full, one part more at each step, innermost first.
    pub fn steps() -> [Self; 7] {
        [0, 1, 3, 7, 15, 31, 63].map(Self::from_bits)
    }
}

impl fmt::Display for Combo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::BARE {
            return f.pad(BARE);
        }
        f.pad(&self.parts().collect::<Vec<_>>().join("+"))
    }
}

impl FromStr for Combo {
    type Err = String;

    /// Takes the parts in any order.
    fn from_str(name: &str) -> Result<Self, String> {
        if name == BARE {
            return Ok(Self::BARE);
        }
        let mut combo = Self::BARE;
        for part in name.split('+') {
            *combo.part(part)? = true;
        }
        Ok(combo)
    }
}

impl Combo {
    fn part(&mut self, name: &str) -> Result<&mut bool, String> {
        match name {
            "pool" => Ok(&mut self.pool),
            "retry" => Ok(&mut self.retry),
            "breaker" => Ok(&mut self.breaker),
            "rate" => Ok(&mut self.rate),
            "limit" => Ok(&mut self.limit),
            "timeout" => Ok(&mut self.timeout),
            "hedge" => Ok(&mut self.hedge),
            "fallback" => Ok(&mut self.fallback),
            "coalesce" => Ok(&mut self.coalesce),
            "keyed" => Ok(&mut self.keyed),
            "chaos" => Ok(&mut self.chaos),
            other => Err(format!("unknown layer {other:?}; there are: {}", PARTS.join(", "))),
        }
    }

    /// Whether there is nothing in it that is not in `other` too.
    pub fn is_within(self, other: Self) -> bool {
        self.has().into_iter().zip(other.has()).all(|(here, there)| there || !here)
    }
}

/// Which stacks are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those whose name matches.
    pub filter: Option<Regex>,
    /// Those that are made of no other parts than these; without it, the 64.
    pub layers: Option<Combo>,
}

// === impl Selection ===

impl Selection {
    /// The wanted stacks, and [`Combo::BARE`] before them in any case: ratios are taken to it.
    pub fn combos(&self) -> Vec<Combo> {
        let mut combos = match self.layers {
            Some(layers) => Combo::every().into_iter().filter(|c| c.is_within(layers)).collect(),
            None => Combo::all(),
        };
        let matches = |combo: &Combo| {
            let name = combo.to_string();
            *combo == Combo::BARE || self.filter.as_ref().is_none_or(|regex| regex.is_match(&name))
        };
        combos.retain(matches);
        combos
    }
}

/// Whether some stack has a name that matches.
pub fn is_some_name(regex: &Regex) -> bool {
    Combo::every().iter().any(|combo| regex.is_match(&combo.to_string()))
}

/// Reads what `--layers` is given: parts, with commas between them.
///
/// # Errors
///
/// Names the part that is unknown, and those that are known.
pub fn layers(text: &str) -> Result<Combo, String> {
    let mut combo = Combo::BARE;
    for part in text.split(',').map(str::trim) {
        *combo.part(part)? = true;
    }
    Ok(combo)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn names(selection: &Selection) -> Vec<String> {
        selection.combos().iter().map(Combo::to_string).collect()
    }

    #[test]
    fn there_are_64_different_names_and_each_can_be_read() {
        let all = Combo::all();
        let names: HashSet<_> = all.iter().map(Combo::to_string).collect();
        assert_eq!(names.len(), 64);
        assert!(all.iter().all(|combo| combo.to_string().parse() == Ok(*combo)));
        assert_eq!(all[0].to_string(), "bare");
        assert_eq!(all[63].to_string(), "pool+retry+breaker+rate+limit+timeout");
    }

    #[test]
    fn half_of_them_have_the_pool_in_front() {
        let all = Combo::all();
        assert!(all[..32].iter().all(|combo| !combo.pool));
        assert!(all[32..].iter().all(|combo| combo.pool));
        assert_eq!(all[32].to_string(), "pool");
    }

    #[test]
    fn layers_stand_for_every_combination_of_them() {
        let selection = Selection { layers: Some(layers("retry, breaker").unwrap()), filter: None };
        assert_eq!(names(&selection), ["bare", "breaker", "retry", "retry+breaker"]);
        let selection = Selection { layers: Some(layers("pool,limit").unwrap()), filter: None };
        assert_eq!(names(&selection), ["bare", "limit", "pool", "pool+limit"]);
    }

    #[test]
    fn newer_layers_are_there_only_where_they_are_asked_for() {
        assert!(!Combo::all().iter().any(|combo| combo.has_newer()));
        let selection = Selection { layers: Some(layers("hedge,retry").unwrap()), filter: None };
        assert_eq!(names(&selection), ["bare", "retry", "hedge", "retry+hedge"]);
        let selection = Selection { layers: Some(layers("keyed,limit").unwrap()), filter: None };
        assert_eq!(names(&selection), ["bare", "limit", "keyed", "keyed+limit"]);
        let all = Selection { layers: Some(layers(&PARTS.join(",")).unwrap()), filter: None };
        let names: HashSet<_> = names(&all).into_iter().collect();
        assert_eq!(names.len(), 2_048);
        assert!(names.contains(&PARTS.join("+")) && names.contains("bare"));
    }

    #[test]
    fn a_filter_keeps_the_bare_service() {
        let filter = Some(Regex::new("^pool\\+limit$").unwrap());
        assert_eq!(names(&Selection { filter, layers: None }), ["bare", "pool+limit"]);
    }

    #[test]
    fn an_unknown_layer_is_answered_with_the_known_ones() {
        let error = layers("retry,braker").unwrap_err();
        assert!(error.contains("\"braker\""), "{error}");
        assert!(PARTS.iter().all(|part| error.contains(part)), "{error}");
        assert!(layers("").is_err());
        assert!("limit+".parse::<Combo>().is_err());
    }

    #[test]
    fn each_step_adds_one_part() {
        let names = Combo::steps().map(|combo| combo.to_string());
        assert_eq!(names[0], "bare");
        assert_eq!(names[2], "limit+timeout");
        assert_eq!(names[6], Combo::FULL.to_string());
    }
}
