//! How often each cluster of a qcow2 file is used, and the tables that say so.
//!
//! The tables count themselves too, so their size is a fixed point. Called by `qcow2_zlib`.

use crate::qcow2_zlib::CLUSTER;

/// Clusters that one block of 16-bit counts covers.
const A_BLOCK: u64 = CLUSTER / 2;

/// Counts by cluster of the file.
#[derive(Default)]
pub(crate) struct Refcounts(Vec<u16>);

/// The tables, as they lie in the file.
pub(crate) struct PlacedRefcounts {
    /// Blocks, then the table, each a multiple of a cluster.
    pub(crate) bytes: Vec<u8>,
    /// Where the table begins in the file.
    pub(crate) table_at: u64,
    pub(crate) table_clusters: u32,
}

impl Refcounts {
    /// One more use of every cluster that these bytes touch; a compressed cluster's bytes touch one
    /// or two.
    pub(crate) fn count(&mut self, start: u64, bytes: u64) {
        let (first, end) = (start / CLUSTER, (start + bytes).div_ceil(CLUSTER));
        if self.0.len() < end as usize {
            self.0.resize(end as usize, 0);
        }
        for uses in &mut self.0[first as usize..end as usize] {
            // 65,536 bytes hold far fewer compressed clusters than 65,535.
            *uses += 1;
        }
    }

    /// The tables for a file in which they begin at `start`, the beginning of its last clusters.
    pub(crate) fn place(mut self, start: u64) -> PlacedRefcounts {
        let before = start / CLUSTER;
        let (mut blocks, mut table) = (0, 0);
        loop {
            let wanted_blocks = (before + blocks + table).div_ceil(A_BLOCK);
            let wanted_table = (wanted_blocks * 8).div_ceil(CLUSTER);
            if (wanted_blocks, wanted_table) == (blocks, table) {
                break;
            }
            (blocks, table) = (wanted_blocks, wanted_table);
        }
        self.count(start, (blocks + table) * CLUSTER);
        self.0.resize((blocks * A_BLOCK) as usize, 0);
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|uses| uses.to_be_bytes()).collect();
        let table_at = start + bytes.len() as u64;
        let places = (0..blocks).flat_map(|block| (start + block * CLUSTER).to_be_bytes());
        bytes.extend(places);
        bytes.resize(((blocks + table) * CLUSTER) as usize, 0);
        // As many as there are of 512 GiB each.
        let table_clusters = u32::try_from(table).unwrap_or(u32::MAX);
        PlacedRefcounts { bytes, table_at, table_clusters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_count_themselves_where_they_need_one_more_block() {
        for clusters in [1, A_BLOCK - 3, A_BLOCK - 2, A_BLOCK - 1, A_BLOCK, 3 * A_BLOCK - 1] {
            let mut refcounts = Refcounts::default();
            refcounts.count(0, clusters * CLUSTER);
            let placed = refcounts.place(clusters * CLUSTER);
            let whole = clusters + placed.bytes.len() as u64 / CLUSTER;
            let counted = placed.bytes[..(placed.table_at - clusters * CLUSTER) as usize]
                .chunks(2)
                .filter(|uses| uses == &[0, 1]);
            assert_eq!(counted.count() as u64, whole, "{clusters} clusters");
        }
    }

    #[test]
    fn a_cluster_that_several_touch_is_counted_for_each() {
        let mut refcounts = Refcounts::default();
        refcounts.count(10, 100);
        refcounts.count(110, CLUSTER);
        refcounts.count(2 * CLUSTER - 1, 1);
        assert_eq!(refcounts.0, [2, 2]);
    }
}
