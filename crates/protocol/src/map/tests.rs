use super::order::CHUNK_MAX;
use super::*;
use std::collections::{BTreeMap, BTreeSet};

fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn same(map: &Map<u64, u64>, model: &BTreeMap<u64, u64>, around: u64) {
    assert_eq!(map.len(), model.len());
    assert!(map.iter().eq(model));
    assert!(map.iter().rev().eq(model.iter().rev()));
    assert!(map.range(around..).eq(model.range(around..)));
    assert!(map.range(around..).rev().eq(model.range(around..).rev()));
    let (mut both, mut want) = (map.iter(), model.iter());
    while let Some(front) = both.next() {
        assert_eq!(Some(front), want.next());
        assert_eq!(both.next_back(), want.next_back());
    }
    assert_eq!(want.next(), None);
    assert_eq!(map.first_key_value(), model.first_key_value());
    assert_eq!(map.last_key_value(), model.last_key_value());
    assert!(map.clone().into_iter().eq(model.clone()));
    assert!(map.order.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_MAX));
}

#[test]
fn a_map_is_a_btree_map_under_any_mix_of_calls() {
    for round in 0..60 {
        let mut seed = round;
        let (mut map, mut model) = (Map::new(), BTreeMap::new());
        let keys = [5, 40, 300, 3_000][round as usize % 4];
        for _ in 0..1_500 {
            let key = next(&mut seed) % keys;
            let value = next(&mut seed);
            match next(&mut seed) % 12 {
                0..3 => assert_eq!(map.replace(key, value), model.insert(key, value)),
                3..5 => assert_eq!(map.insert(key, value), model.insert(key, value).is_none()),
                5..7 => assert_eq!(map.remove(&key), model.remove(&key)),
                7 => {
                    *map.entry(key).or_insert(7) += 1;
                    *model.entry(key).or_insert(7) += 1;
                }
                8 => {
                    assert_eq!(map.pop_first(), model.pop_first());
                    assert_eq!(map.get(&key).is_some(), model.contains_key(&key));
                }
                9 if value.is_multiple_of(40) => {
                    map.retain(|key, _| key % 3 != 0);
                    model.retain(|key, _| key % 3 != 0);
                }
                _ => {
                    if let (Some(a), Some(b)) = (map.get_mut(&key), model.get_mut(&key)) {
                        (*a, *b) = (value, value);
                    }
                }
            }
        }
        same(&map, &model, next(&mut seed) % keys);
        assert_eq!(map, model.clone().into_iter().collect());
        assert_eq!(format!("{map:?}"), format!("{model:?}"));
    }
}

#[test]
fn keys_in_order_and_out_of_order_and_removals_from_the_front_keep_the_chunks_right() {
    for step in [1_u64, 7_919] {
        let (mut map, mut model) = (Map::new(), BTreeMap::new());
        for index in 0..20_000 {
            let key = index * step % 20_011;
            assert_eq!(map.replace(key, index), model.insert(key, index));
        }
        same(&map, &model, 10_000);
        for _ in 0..15_000 {
            let first = *model.keys().next().unwrap();
            assert_eq!(map.remove(&first), model.remove(&first));
        }
        same(&map, &model, 16_000);
    }
}

#[test]
fn a_set_is_a_btree_set() {
    let mut seed = 9;
    let (mut set, mut model) = (Set::new(), BTreeSet::new());
    for _ in 0..5_000 {
        let key = next(&mut seed) % 700;
        if next(&mut seed).is_multiple_of(3) {
            assert_eq!(set.remove(&key), model.remove(&key));
        } else {
            assert_eq!(set.insert(key), model.insert(key));
        }
        if key == 3 {
            assert_eq!(set.pop_last(), model.pop_last());
        }
    }
    assert!(set.iter().eq(&model));
    assert_eq!((set.first(), set.last()), (model.first(), model.last()));
    assert_eq!(set.contains(&5), model.contains(&5));
}

#[test]
fn sorting_is_stable() {
    let mut seed = 3;
    for count in [0, 1, 2, 300, 5_000] {
        let mut items: Vec<(u64, u64)> = (0..count).map(|index| (next(&mut seed) % 300, index)).collect();
        let mut model = items.clone();
        model.sort_by_key(|(key, _)| *key);
        sort(&mut items, &|a, b| a.0.cmp(&b.0));
        assert_eq!(items, model);
    }
}

#[test]
fn the_json_is_that_of_the_standard_map() {
    let model: BTreeMap<String, Vec<u64>> = BTreeMap::from([("b\"".into(), vec![1]), ("a".into(), vec![])]);
    let text = serde_json::to_string(&model).unwrap();
    let map: Map<String, Vec<u64>> = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&map).unwrap(), text);
    let set: Set<u64> = serde_json::from_str("[3,1,3]").unwrap();
    assert_eq!(serde_json::to_string(&set).unwrap(), "[1,3]");
    assert_eq!(serde_json::from_str::<Map<String, u64>>("{\"a\":1,\"a\":2}").unwrap()["a"], 2);
}

/// Not a promise but a number to look at: `cargo test --release -p landfall-protocol -- --nocapture how_fast`.
#[test]
fn how_fast_it_is_beside_the_standard_map() {
    const COUNT: u64 = 100_000;
    for (name, step) in [("in order", 1_u64), ("mixed", 70_921)] {
        let start = std::time::Instant::now();
        let mut model = BTreeMap::new();
        (0..COUNT).for_each(|index| _ = model.insert(index * step % 100_003, [index; 20]));
        let model_in = start.elapsed();
        (0..100_003).for_each(|key| _ = model.remove(&key));
        let model_all = start.elapsed();
        let start = std::time::Instant::now();
        let mut map = Map::new();
        (0..COUNT).for_each(|index| _ = map.insert(index * step % 100_003, [index; 20]));
        let map_in = start.elapsed();
        (0..100_003).for_each(|key| _ = map.remove(&key));
        let map_all = start.elapsed();
        println!("{name}: std in {model_in:?} all {model_all:?}; here in {map_in:?} all {map_all:?}");
        assert!(map.is_empty() && model.is_empty());
    }
}
