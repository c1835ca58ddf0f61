//! What rules name beside stores: categories of goods, and regions of stores.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rules::Tables;
use crate::table::{Table, mix};

/// Most regions: a number of twelve bits.
const REGIONS_MAX: usize = 4_095;
/// Most stores and merchants of all regions.
const PLACES_MAX: usize = 1_000_000;

/// A category of goods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// From 1.
    pub id: u16,
    /// For people.
    pub name: String,
}

/// A region: stores that are named, and all other stores of merchants that are. Its number is its place among the regions, from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// For people.
    pub name: String,
    /// Numbers of stores, ascending.
    #[serde(default)]
    pub stores: Vec<u32>,
    /// Numbers of merchants, ascending.
    #[serde(default)]
    pub merchants: Vec<u32>,
}

/// The regions by their stores and merchants.
#[derive(Clone, Default)]
pub(super) struct Places {
    table: Table,
    /// A store or a merchant, and its region.
    places: Vec<(u64, u16)>,
}

impl fmt::Debug for Places {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "regions of {} stores and merchants", self.places.len())
    }
}

/// A merchant, so that no store is taken for one.
const MERCHANT: u64 = 1 << 32;

impl Places {
    /// Those of these; None if one is in two of them.
    pub(super) fn of(regions: &[Region]) -> Option<Places> {
        let mut found = Places::default();
        for (number, region) in (1..).zip(regions) {
            let stores = region.stores.iter().map(|&store| store.into());
            for place in stores.chain(region.merchants.iter().map(|&merchant| MERCHANT | u64::from(merchant))) {
                if found.region(place).is_some() {
                    return None;
                }
                found.table.insert(mix(place, 0), found.places.len() as u32);
                found.places.push((place, number));
            }
        }
        Some(found)
    }

    #[inline]
    fn region(&self, place: u64) -> Option<u16> {
        let mut found = self.table.get(mix(place, 0)).map(|at| self.places[at as usize]);
        found.find(|of| of.0 == place).map(|of| of.1)
    }
}

impl Tables {
    /// The region that a store of a merchant is in; 0: none.
    #[inline]
    pub fn region(&self, store: u32, merchant: u32) -> u16 {
        if self.regions.is_empty() {
            return 0;
        }
        let places = &self.places;
        places.region(store.into()).or_else(|| places.region(MERCHANT | u64::from(merchant))).unwrap_or(0)
    }

    pub(super) fn check_places(&self) -> Result<(), String> {
        let bad = |what: String| Err(format!("tables: {what}"));
        let named = |name: &str| (1..=64).contains(&name.len());
        let categories = &self.categories;
        if !categories.is_sorted_by(|a, b| a.id < b.id) || categories.iter().any(|of| of.id == 0 || !named(&of.name)) {
            return bad("categories: by ascending id from 1 on, each with a name".into());
        }
        let places: usize = self.regions.iter().map(|region| region.stores.len() + region.merchants.len()).sum();
        if self.regions.len() > REGIONS_MAX || places > PLACES_MAX || self.regions.iter().any(|region| !named(&region.name)) {
            return bad(format!("regions: at most {REGIONS_MAX}, of {PLACES_MAX} stores and merchants, each with a name"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::Tables;
    use crate::rules::tests::TABLES;

    fn with(rules: &str) -> Result<Tables, String> {
        Tables::parse(&TABLES.replacen("\"compounding_rate\"", &format!("{rules}, \"compounding_rate\""), 1))
    }

    #[test]
    fn a_store_is_in_its_own_region_or_that_of_its_merchant() {
        let regions = r#""regions": [{"name": "north", "stores": [1, 2], "merchants": [7]}, {"name": "south", "stores": [3], "merchants": [1]}]"#;
        let tables = with(regions).unwrap();
        let asked = [(1, 9), (2, 1), (3, 7), (4, 7), (4, 1), (7, 9), (4, 4)];
        assert_eq!(asked.map(|(store, merchant)| tables.region(store, merchant)), [1, 1, 2, 1, 2, 0, 0]);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (rules, word) in [
            (r#""regions": [{"name": "a", "stores": [1]}, {"name": "b", "stores": [1]}]"#, "two regions"),
            (r#""regions": [{"name": ""}]"#, "regions"),
            (r#""categories": [{"id": 0, "name": "a"}]"#, "categories"),
            (r#""categories": [{"id": 2, "name": "a"}, {"id": 1, "name": "b"}]"#, "categories"),
            (r#""discounts": [{"id": 9, "name": "a", "value": 1, "when": {"categories": [1]}}]"#, "discount 9"),
            (r#""discounts": [{"id": 9, "name": "a", "value": 1, "when": {"regions": [1]}}]"#, "discount 9"),
            (r#""discounts": [{"id": 9, "name": "a", "value": 1, "when": {"tiers": [1]}}]"#, "discount 9"),
        ] {
            let error = with(rules).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
