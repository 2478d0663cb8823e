//! Plugins against each other: which file of an id counts, who replaces whom, who serves a target.
//!
//! Everything is decided by the same order: higher priority, then stronger folder, then id. No
//! result depends on the order in which files were met; the losers keep a reason. Pure: judged
//! files and descriptions in, entries and target table out. Called by `registry.rs`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imagefactory_plugin_sdk::payload::manifest::Manifest;

use crate::described::{DescribedAs, DescribedPlugins};
use crate::description::check_facts;
use crate::entry::{Entry, EntryState, TargetFate, TargetRow};
use crate::judge::{Judged, Verdict};
use crate::matching::{TargetTable, Unclaimed};
use crate::reason::Reason;
use crate::trust::last_name;

/// All entries in the order of ids (the counting file of an id first), and who serves what.
pub(crate) fn decide(
    judged: &[Arc<Judged>],
    described: &DescribedPlugins,
) -> (Vec<Entry>, TargetTable) {
    let mut judged: Vec<Arc<Judged>> = judged.to_vec();
    // EC2.json before EC2.info: the new form of a manifest wins over the original's.
    judged.sort_by(|a, b| order_of_files(a).cmp(&order_of_files(b)));
    let mut entries: Vec<Entry> = Vec::with_capacity(judged.len());
    for file in judged {
        let entry = match first_of_id(&entries, &file.id) {
            Some(stronger) => behind(stronger, file),
            None => on_its_own(file, described),
        };
        entries.push(entry);
    }
    let alive = without_replaced(&mut entries);
    let alive = without_conflicting(&mut entries, alive);
    let table = give_targets(&mut entries, &alive);
    (entries, table)
}

fn order_of_files(file: &Judged) -> (&str, usize, bool) {
    (&file.id, file.rank, file.is_legacy)
}

/// The entries are in the order of ids; the first of an id is the one that counts.
fn first_of_id<'e>(entries: &'e [Entry], id: &str) -> Option<&'e Entry> {
    let first = entries.partition_point(|entry| entry.id() < id);
    entries.get(first).filter(|entry| entry.id() == id)
}

/// A file behind a stronger one of the same id.
fn behind(stronger: &Entry, file: Arc<Judged>) -> Entry {
    let state = if matches!(stronger.state, EntryState::Masked(_)) {
        EntryState::Masked(Reason::new("masked by the administrator").at(stronger.path()))
    } else {
        let message = "another manifest of the same id stands in a stronger place";
        EntryState::Shadowed(Reason::new(message).at(stronger.path()))
    };
    unused(file, state)
}

fn on_its_own(file: Arc<Judged>, described: &DescribedPlugins) -> Entry {
    let state = match &file.verdict {
        Verdict::Mask => {
            let message = format!("{} is empty, which masks the plugin", last_name(&file.path));
            EntryState::Masked(Reason::new(message).at(&file.path).hint("remove it to unmask"))
        }
        Verdict::Inactive(reason) => EntryState::Inactive(reason.clone()),
        Verdict::Error(reason) => EntryState::Error(reason.clone()),
        Verdict::Fit => return fit(file, described),
    };
    unused(file, state)
}

fn fit(file: Arc<Judged>, described: &DescribedPlugins) -> Entry {
    let known = file.library.as_ref().and_then(|library| described.of(library));
    let (Some(manifest), Some(known)) = (&file.manifest, known) else {
        return unused(file, EntryState::Undescribed);
    };
    let state_and_facts = match known {
        DescribedAs::Quarantined(why) => {
            let reason = Reason::new(format!("in quarantine until its library changes: {why}"));
            Err(reason.at(&file.path).hint("install a mended library"))
        }
        DescribedAs::Facts(facts) => check_facts(manifest, facts)
            .map(|()| Arc::new(facts.as_ref().clone()))
            .map_err(|reason| reason.at(&file.path)),
    };
    match state_and_facts {
        Ok(facts) => Entry { facts: Some(facts), ..unused(file, EntryState::Active) },
        Err(reason) => unused(file, EntryState::Error(reason)),
    }
}

/// An entry that serves nothing, or nothing yet.
fn unused(file: Arc<Judged>, state: EntryState) -> Entry {
    let targets = file.manifest.iter().flat_map(|manifest| &manifest.targets);
    let targets = targets
        .map(|target| TargetRow { target: target.clone(), fate: TargetFate::PluginUnused })
        .collect();
    Entry { state, targets, facts: None, judged: file }
}

/// The serving entries, the strongest first.
fn by_strength(entries: &[Entry]) -> Vec<usize> {
    let mut order: Vec<usize> =
        (0..entries.len()).filter(|index| entries[*index].state.serves()).collect();
    order.sort_by(|a, b| strength(&entries[*a]).cmp(&strength(&entries[*b])));
    order
}

/// Sorts the strongest first. Ids of serving entries differ, so no two are equal.
fn strength(entry: &Entry) -> (Reverse<u32>, usize, &str) {
    let priority = entry.manifest().map_or(0, |manifest| manifest.priority);
    (Reverse(priority), entry.rank(), entry.id())
}

/// Takes out whatever another one replaces; the rest, the strongest first.
///
/// A plugin that is itself replaced replaces nobody. Going through them so that each comes after
/// those that replace it makes this one pass; in a circle the strongest begins.
fn without_replaced(entries: &mut [Entry]) -> Vec<usize> {
    let mut open = by_strength(entries);
    let replaces = references(entries, &open, |manifest| &manifest.replaces);
    let mut replaced_by_open = vec![0_usize; entries.len()];
    for target in replaces.values().flatten() {
        replaced_by_open[*target] += 1;
    }
    let mut alive = Vec::new();
    while !open.is_empty() {
        let next = open.iter().position(|index| replaced_by_open[*index] == 0).unwrap_or(0);
        let winner = open.remove(next);
        alive.push(winner);
        let mut leaving = vec![winner];
        for index in replaces.get(&winner).into_iter().flatten() {
            if let Some(place) = open.iter().position(|other| other == index) {
                open.remove(place);
                leaving.push(*index);
                let message = format!("{} replaces it", entries[winner].id());
                let place = entries[winner].path().clone();
                entries[*index].state = EntryState::Inactive(Reason::new(message).at(place));
            }
        }
        for target in leaving.iter().filter_map(|index| replaces.get(index)).flatten() {
            replaced_by_open[*target] -= 1;
        }
    }
    alive.sort_by(|a, b| strength(&entries[*a]).cmp(&strength(&entries[*b])));
    alive
}

/// Of two that conflict, in whichever manifest it stands, the stronger stays.
fn without_conflicting(entries: &mut [Entry], alive: Vec<usize>) -> Vec<usize> {
    let mut rivals = references(entries, &alive, |manifest| &manifest.conflicts);
    for (index, others) in rivals.clone() {
        for other in others {
            rivals.entry(other).or_default().insert(index);
        }
    }
    let mut staying: Vec<usize> = Vec::new();
    for index in alive {
        let rivals_of_it = rivals.get(&index);
        let is_rival = |other: &usize| rivals_of_it.is_some_and(|rivals| rivals.contains(other));
        match staying.iter().copied().find(is_rival) {
            None => staying.push(index),
            Some(rival) => {
                let why = why_stronger(&entries[rival], &entries[index]);
                let message = format!("conflicts with {}, which {why}", entries[rival].id());
                let reason = Reason::new(message)
                    .at(entries[rival].path())
                    .hint("remove one of them, or change a priority by a drop-in");
                entries[index].state = EntryState::Inactive(reason);
            }
        }
    }
    staying
}

/// Which of these entries each of them names in a list of ids.
fn references(
    entries: &[Entry],
    among: &[usize],
    list: fn(&Manifest) -> &Vec<String>,
) -> BTreeMap<usize, BTreeSet<usize>> {
    let by_id: BTreeMap<&str, usize> =
        among.iter().map(|index| (entries[*index].id(), *index)).collect();
    let named_by = |index: &usize| {
        let ids = entries[*index].manifest().into_iter().flat_map(list);
        let named = ids.filter_map(|id| by_id.get(id.as_str()).copied());
        (*index, named.collect())
    };
    among.iter().map(named_by).collect()
}

fn give_targets(entries: &mut [Entry], alive: &[usize]) -> TargetTable {
    let mut table = TargetTable::default();
    for &index in alive {
        let Some(manifest) = entries[index].manifest() else { continue };
        let rows: Vec<TargetRow> = manifest
            .targets
            .iter()
            .map(|target| TargetRow {
                target: target.clone(),
                fate: match table.claim(manifest.kind, target, index) {
                    Ok(()) => TargetFate::Served,
                    Err(Unclaimed::NeverFound) => TargetFate::NeverFound,
                    Err(Unclaimed::HeldBy(holder)) => {
                        TargetFate::Outbid(outbid(&entries[holder], &entries[index]))
                    }
                },
            })
            .collect();
        let serves = rows.iter().any(|row| row.fate == TargetFate::Served);
        if !serves {
            entries[index].state = EntryState::Inactive(nothing_served(&rows));
        }
        entries[index].targets = rows;
    }
    table
}

fn outbid(holder: &Entry, loser: &Entry) -> Reason {
    let why = why_stronger(holder, loser);
    Reason::new(format!("{} serves it, which {why}", holder.id())).at(holder.path())
}

/// Completes "…, which …": the first of the three criteria in which they differ.
fn why_stronger(winner: &Entry, loser: &Entry) -> String {
    let (Reverse(won), winner_rank, winner_id) = strength(winner);
    let (Reverse(lost), loser_rank, loser_id) = strength(loser);
    if won != lost {
        format!("has priority {won} over {lost}")
    } else if winner_rank != loser_rank {
        "lies in a stronger folder".to_owned()
    } else {
        format!("comes first by id ({winner_id} before {loser_id})")
    }
}

fn nothing_served(rows: &[TargetRow]) -> Reason {
    let mut by_reason: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        if let TargetFate::Outbid(reason) = &row.fate {
            *by_reason.entry(&reason.message).or_default() += 1;
        }
    }
    // The message that most rows have; among equals the first in order.
    match by_reason.iter().max_by_key(|(message, count)| (**count, Reverse(**message))) {
        Some((message, _)) => Reason::new(format!("none of its targets comes to it: {message}")),
        None => Reason::new("it has no target that a lookup can find"),
    }
}
