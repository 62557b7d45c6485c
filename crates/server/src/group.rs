//! Cutting a push into what is decided together: lone mutations and groups.

use crate::mutation::{Content, Element, record_bytes};
use landfall_protocol::GroupId;
use landfall_protocol::limits::{GROUP_BYTES_MAX, GROUP_COUNT_MAX};
use std::collections::BTreeMap;
use std::ops::Range;

/// A lone mutation or a whole group.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    pub range: Range<usize>,
    pub group: bool,
    /// Why the group cannot be judged at all.
    pub refusal: Option<&'static str>,
}

/// Cuts a push into units: neighbours with the same group belong together.
pub fn units(elements: &[Element]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut runs_of: BTreeMap<&GroupId, u32> = BTreeMap::new();
    let mut start = 0;
    while let Some(first) = elements.get(start) {
        let Some(group) = first.group() else {
            units.push(Unit { range: start..start + 1, group: false, refusal: None });
            start += 1;
            continue;
        };
        let count = elements[start..].iter().take_while(|element| element.group() == Some(group)).count();
        *runs_of.entry(group).or_default() += 1;
        units.push(Unit { range: start..start + count, group: true, refusal: None });
        start += count;
    }
    for unit in units.iter_mut().filter(|unit| unit.group) {
        let members = &elements[unit.range.clone()];
        let split = members.first().and_then(Element::group).is_some_and(|group| runs_of[group] > 1);
        unit.refusal =
            if split { Some("The changes of a group were not sent together.") } else { group_fault(members) };
    }
    units
}

fn group_fault(members: &[Element]) -> Option<&'static str> {
    let mut scopes = members.iter().filter_map(|member| match &member.content {
        Content::Mutation(mutation) => Some((&mutation.scope, record_bytes(&mutation.set))),
        Content::Void | Content::Refused { .. } => None,
    });
    let first = scopes.clone().next().map(|(scope, _)| scope);
    if scopes.clone().any(|(scope, _)| Some(scope) != first) {
        return Some("The changes of a group must be in one scope.");
    }
    if members.len() > GROUP_COUNT_MAX || scopes.by_ref().map(|(_, bytes)| bytes).sum::<usize>() > GROUP_BYTES_MAX {
        return Some("A group has at most 100 changes and 256 KB.");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_protocol::Json;

    fn elements(groups: &[Option<(&str, &str)>]) -> Vec<Element> {
        let element = |(at, group): (usize, &Option<(&str, &str)>)| {
            let (group, scope) =
                group.map_or((String::new(), "s:1"), |(name, scope)| (format!(r#","group":"{name}""#), scope));
            let seq = at + 1;
            let text = format!(
                r#"{{"seq":{seq},"scope":"{scope}","collection":"c","id":"i","op":"delete","base":1,"stamp":"0190f0a1b2c3-0001-c"{group}}}"#
            );
            Element::read(&Json::parse(&text).unwrap()).unwrap()
        };
        groups.iter().enumerate().map(element).collect()
    }

    #[test]
    fn s5_neighbours_of_one_group_are_one_unit() {
        let elements = elements(&[None, Some(("g", "s:1")), Some(("g", "s:1")), None, Some(("h", "s:1"))]);
        let ranges: Vec<_> = units(&elements).into_iter().map(|unit| (unit.range, unit.refusal)).collect();
        assert_eq!(ranges, [(0..1, None), (1..3, None), (3..4, None), (4..5, None)]);
    }

    #[test]
    fn s5_a_group_that_is_torn_or_crosses_scopes_or_is_too_large_is_refused_whole() {
        let torn = elements(&[Some(("g", "s:1")), None, Some(("g", "s:1"))]);
        let refused: Vec<bool> = units(&torn).iter().map(|unit| unit.refusal.is_some()).collect();
        assert_eq!(refused, [true, false, true]);
        let crossing = elements(&[Some(("g", "s:1")), Some(("g", "s:2"))]);
        assert!(units(&crossing)[0].refusal.is_some());
        let large = elements(&vec![Some(("g", "s:1")); GROUP_COUNT_MAX + 1]);
        assert!(units(&large)[0].refusal.is_some());
    }
}
