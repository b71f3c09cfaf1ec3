//! Grid arithmetic: how many workgroups cover how many work items, within what an adapter allows in one dimension.

use super::{Settings, Target};

/// How a launch over a line of items is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    /// Workgroups in one dimension.
    pub groups: usize,
    /// Items that a lane serves one after the other: the constant `UNROLL` of a kernel that includes `each`.
    pub unroll: usize,
}

/// The layout that covers `count` items with workgroups of `lanes`: `least` items a lane, more where the adapter does not
/// allow as many workgroups.
pub fn cover(count: usize, lanes: usize, least: usize, target: &Target) -> Cover {
    let unroll = count.div_ceil(lanes * target.max_grid as usize).max(least);
    Cover { groups: count.div_ceil(lanes * unroll), unroll }
}

/// The grid of a kernel that includes `fold`. Where it is longer in one dimension than the adapter allows, its workgroups are
/// counted through and lie in rows of equal length; the last few may be one too many, and repeat the last workgroup.
pub fn fold([x, y, z]: [usize; 3], settings: Settings, target: &Target) -> ([usize; 3], Settings) {
    let most = target.max_grid as usize;
    if x.max(y).max(z) <= most {
        return ([x, y, z], settings);
    }
    let total = x * y * z;
    let rows = total.div_ceil(most);
    let width = total.div_ceil(rows);
    let constants = [("GRID_X", x), ("GRID_Y", y), ("GROUPS", total), ("WIDTH", width)];
    let settings = constants.into_iter().fold(settings, |settings, (name, value)| settings.set(name, word(value)));
    ([width, rows, 1], settings.flag("FOLDED", true))
}

/// A number of a kernel's text or parameters. Panics beyond 32 bits: a binding holds fewer words (see `Launch::fits`).
pub(super) fn word(value: usize) -> u32 {
    u32::try_from(value).expect("counts stay below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_covered_once_within_the_limit() {
        for max_grid in [1, 7, 65_535] {
            let target = Target { max_grid, ..Target::minimum() };
            for count in [1, 63, 64, 65, 448, 449, 65_535 * 64, 65_535 * 64 + 1, 1 << 31] {
                for least in [1, 4] {
                    let Cover { groups, unroll } = cover(count, 64, least, &target);
                    assert!(groups <= max_grid as usize && unroll >= least, "{count}: {groups} x {unroll}");
                    assert!(groups * unroll * 64 >= count && (groups - 1) * unroll * 64 < count, "{count}");
                }
            }
        }
    }

    #[test]
    fn folded_grids_hold_all_groups() {
        let target = Target { max_grid: 100, ..Target::minimum() };
        assert_eq!(fold([100, 3, 2], Settings::new(), &target), ([100, 3, 2], Settings::new()));
        for wanted in [[101, 3, 2], [3, 101, 2], [7, 3, 101]] {
            let (grid, settings) = fold(wanted, Settings::new(), &target);
            let total: usize = wanted.iter().product();
            assert!(grid.iter().all(|&g| g <= 100) && grid.iter().product::<usize>() >= total, "{wanted:?}: {grid:?}");
            assert!(grid[0] * (grid[1] - 1) < total, "{wanted:?}: {grid:?} has a row without work");
            assert!(settings.label().contains("folded"), "{settings:?}");
        }
    }
}
