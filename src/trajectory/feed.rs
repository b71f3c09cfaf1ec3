//! Activity that lies on the host, handed to streams on the device.

use super::measured::{Arrivals, Layout};
use super::streaming::ActivityBatch;
use crate::Result;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::{Program, View};

/// Leaves arrays of the host where streams that are made with the same [`Store`] read them: a program without kernels, whose
/// ring of upload buffers lets the host write a batch while the device still works on the last one.
pub struct Feed<'g> {
    gpu: &'g Gpu,
    recording: Recording,
    layout: Layout,
    to: Arrivals,
}

impl<'g> Feed<'g> {
    /// For batches of this layout, whose timesteps lie without gaps (see [`Layout::dense`]).
    ///
    /// # Errors
    /// Buffers that do not fit the adapter; out of memory.
    pub async fn new(gpu: &'g Gpu, layout: Layout, store: &mut Store) -> Result<Feed<'g>> {
        let mut program = Program::default();
        let to = Arrivals::new(&mut program, &layout);
        let networks = [Some(to.trained), to.untrained].into_iter().flatten();
        let views: Vec<View> = networks.flat_map(|of| [of.logits, of.representations]).chain([to.labels]).collect();
        let plan = Plan::new(&program, true).with_rings(views.iter().map(|view| view.bytes), std::iter::empty());
        plan.fits(&program, &gpu.target)?;
        let recording = Recording::new(gpu, &program, &plan, store).await?;
        Ok(Feed { gpu, recording, layout, to })
    }

    /// Submits a batch: what is submitted after it finds it. Waits while two batches are under way.
    ///
    /// # Errors
    /// A lost device.
    pub async fn push(&self, batch: &ActivityBatch<'_>) -> Result<()> {
        assert_eq!(batch.width, self.layout.width, "all batches of a stream have the same width");
        assert_eq!(
            batch.untrained.is_some(),
            self.to.untrained.is_some(),
            "the untrained network comes always or never"
        );
        let untrained = self.to.untrained.zip(batch.untrained);
        for (to, of) in [Some((self.to.trained, batch.trained)), untrained].into_iter().flatten() {
            self.recording.feed(self.gpu, to.logits, of.logits).await?;
            self.recording.feed(self.gpu, to.representations, of.representations).await?;
        }
        self.recording.feed(self.gpu, self.to.labels, batch.labels).await?;
        self.recording.run(self.gpu);
        Ok(())
    }
}
