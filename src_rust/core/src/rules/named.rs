//! Stores and merchants that tables name: a version that is published names none that its programme has not.
//!
//! Nothing is ever taken from a programme, so that what was there when a version was published is there for ever.

use std::collections::BTreeMap;

use crate::rules::{Tables, When};

/// What there is in a programme, by number.
#[derive(Clone, Copy)]
pub struct Registered<'a> {
    /// Its stores.
    pub stores: &'a BTreeMap<u32, u32>,
    /// Its merchants.
    pub merchants: &'a BTreeMap<u32, u32>,
}

impl Registered<'_> {
    /// The first that is not there, in words.
    fn missing(&self, stores: &[u32], merchants: &[u32]) -> Option<String> {
        let store = stores.iter().find(|store| !self.stores.contains_key(store)).map(|store| format!("store {store}"));
        let merchant = || merchants.iter().find(|merchant| !self.merchants.contains_key(merchant));
        store.or_else(|| merchant().map(|merchant| format!("merchant {merchant}")))
    }

    fn missing_of(&self, when: &When) -> Option<String> {
        self.missing(&when.stores, &when.merchants)
    }
}

impl Tables {
    /// The first rule that names a store or a merchant that is not registered, as an error says it.
    pub fn check_registered(&self, registered: Registered<'_>) -> Result<(), String> {
        let units = self.units.iter().map(|unit| (format!("unit {}", unit.id), registered.missing(&unit.stores, &[])));
        let regions = (1..).zip(&self.regions);
        let regions = regions.map(|(number, of)| (format!("region {number}"), registered.missing(&of.stores, &of.merchants)));
        let discounts = self.discounts.iter().map(|rule| (format!("discount {}", rule.id), registered.missing_of(&rule.when)));
        let accruals = self.accruals.iter().map(|rule| (format!("accrual {}", rule.id), registered.missing_of(&rule.when)));
        let fees = self.fees.iter().map(|fee| {
            let missing = registered.missing_of(&fee.when).or_else(|| registered.missing(&[], &fee.card_merchants));
            (format!("fee {}", fee.id), missing)
        });
        let mut named = units.chain(regions).chain(discounts).chain(accruals).chain(fees);
        match named.find_map(|(rule, missing)| Some((rule, missing?))) {
            Some((rule, missing)) => {
                Err(format!("tables: {rule}: {missing} is not registered: register it first, or take it out"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::TABLES;

    #[test]
    fn what_is_not_registered_is_named_with_its_rule() {
        let (stores, merchants) = (BTreeMap::from([(1, 0)]), BTreeMap::from([(7, 0)]));
        let check = |rules: &str| {
            let json = TABLES.replacen("\"compounding_rate\"", &format!("{rules}, \"compounding_rate\""), 1);
            Tables::parse(&json).unwrap().check_registered(Registered { stores: &stores, merchants: &merchants })
        };
        for (rules, words) in [
            (r#""units": [{"id": 20, "name": "a", "kind": "value", "stores": [1, 2]}]"#, ["unit 20", "store 2"]),
            (r#""regions": [{"name": "a", "stores": [1]}, {"name": "b", "merchants": [7, 9]}]"#, ["region 2", "merchant 9"]),
            (r#""discounts": [{"id": 9, "name": "a", "value": 1, "when": {"stores": [3]}}]"#, ["discount 9", "store 3"]),
            (r#""accruals": [{"id": 4, "name": "a", "points": 1, "when": {"merchants": [1]}}]"#, ["accrual 4", "merchant 1"]),
            (r#""fees": [{"id": 5, "name": "a", "rate": 1, "card_merchants": [3, 7]}]"#, ["fee 5", "merchant 3"]),
        ] {
            let error = check(rules).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        let good = r#""discounts": [{"id": 9, "name": "a", "value": 1, "when": {"stores": [1], "merchants": [7]}}]"#;
        assert_eq!(check(good), Ok(()));
    }
}
