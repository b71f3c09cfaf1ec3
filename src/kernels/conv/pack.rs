//! Packing of weights into panels of output channels, for the kernels with a register tile.

use super::shape::ConvShape;
use super::winograd::{LANES, MARGIN, Winograd};
use crate::Result;
use crate::kernels::packing::{Packing, WeightOrder};
use crate::kernels::{Param, Program, Settings, Site, Target, View};

/// Packs a weight in panels of `r` output channels, transformed for a cut if there is one; once for all launches of the
/// program that want it so.
pub(super) fn pack(
    p: &mut Program,
    target: &Target,
    shape: &ConvShape,
    (r, cut): (usize, Option<&Winograd>),
    w: View,
    order: WeightOrder,
    site: Site,
) -> Result<View> {
    let ConvShape { cin, cout, k, .. } = *shape;
    let packing = Packing { w, order, channels: [cin, cout], r, m: cut.map(Winograd::side) };
    if let Some(packed) = p.packed(&packing) {
        return Ok(packed);
    }
    let panels = cout.div_ceil(r);
    let for_panels = |settings: Settings| settings.set("R", r as u32).flag("FLIP", order.flip);
    let (kernel, taps, grid) = match cut {
        Some(cut) => {
            let grid = [(cin * r).div_ceil(LANES), panels, 1];
            (("winograd_weight", for_panels(cut.settings())), cut.positions(), grid)
        }
        None => {
            let settings = Settings::new().set("K", k as u32).set("L", LANES as u32);
            (("pack_weight", for_panels(settings)), k * k, [cin, panels, 1])
        }
    };
    let packed = p.scratch("packed", site.area, panels * r * cin * taps + MARGIN);
    let params: &[(&str, Param)] = &[
        ("cin", cin.into()),
        ("cout", cout.into()),
        ("in_step", order.in_step.into()),
        ("out_step", order.out_step.into()),
    ];
    let site = Site { label: &format!("{} pack", site.label), ..site };
    p.add(target, kernel, &[("w", w), ("packed", packed)], params, grid, site)?.packs_weight = true;
    p.has_packed(packing, packed);
    Ok(packed)
}
