//! Activity that others stored: npz files in the layout of the published extraction script, of a network and, if there, of
//! the same network before training.

use super::note;
use super::origin::Origin;
use crate::gpu::{Gpu, Store};
use crate::report::Meta;
use crate::stream::{Order, Pending, Source};
use crate::trajectory::feed::Feed;
use crate::trajectory::measured::Layout;
use crate::trajectory::npz::{Extent, StoredBatch, StoredExtraction};
use crate::trajectory::readout::Readout;
use crate::trajectory::streaming::{Activity, ActivityBatch};
use crate::{Error, Result};
use std::path::Path;

/// Images per batch at most, and bytes of host memory that a batch of one network takes at most, where it has several images.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 32 << 20;

/// Batches of stored activity.
struct Stored<'g> {
    gpu: &'g Gpu,
    feed: Feed<'g>,
    width: usize,
    order: Order,
    /// Images submitted so far.
    done: usize,
    labels: Vec<u32>,
    /// The trained and, if there, the untrained network; the batch of each that is read next.
    networks: Vec<(StoredExtraction, StoredBatch)>,
}

impl<'g> Source<'g> for Stored<'g> {
    fn gpu(&self) -> &'g Gpu {
        self.gpu
    }

    fn submit(&mut self) -> Pending<'_, Option<usize>> {
        Box::pin(async {
            let (all, turn) = (self.order.ids(), self.order.training());
            let end = if self.done < turn { turn } else { all.len() };
            let ids = &all[self.done..end.min(self.done + self.width)];
            if ids.is_empty() {
                return Ok(None);
            }
            for (stored, batch) in &mut self.networks {
                stored.read(ids, self.width, batch)?;
            }
            let mut labels: Vec<u32> = ids.iter().map(|&id| self.labels[id as usize]).collect();
            labels.resize(self.width, 0);
            let activity = |network: usize| -> Option<Activity<'_>> {
                let (_, of) = self.networks.get(network)?;
                Some(Activity { logits: &of.outputs, representations: &of.representations })
            };
            let trained = activity(0).expect("the trained network");
            let (width, images) = (self.width, ids.len());
            let batch = ActivityBatch { width, images, labels: &labels, trained, untrained: activity(1) };
            self.feed.push(&batch).await?;
            self.done += images;
            Ok(Some(images))
        })
    }
}

impl<'g> Origin<'g> {
    /// Of an npz file and, if given, that of the same network before training.
    ///
    /// # Errors
    /// Files that cannot be used or do not fit each other; what the device says.
    pub async fn of_files(gpu: &'g Gpu, file: &Path, init: Option<&Path>) -> Result<Origin<'g>> {
        let trained = StoredExtraction::open(file)?;
        let untrained = init.map(StoredExtraction::open).transpose()?;
        untrained.iter().try_for_each(|untrained| trained.matches(untrained))?;
        let Extent { timesteps, samples, classes, features } = trained.extent;
        let readout = Readout::new(trained.readout_weight.clone(), classes, features)
            .map_err(|e| Error::Data(format!("{}: array 'readout_weight': {e}", file.display())))?;

        // Outputs take four bytes as f32 and eight as they are read.
        let an_image = timesteps * (12 * classes + 4 * features);
        let bound = (gpu.target.max_binding / (4 * timesteps * classes.max(features)) as u64).min(BATCH as u64);
        // Whole multiples of 64 images, so that views can begin at any timestep.
        let width = (BATCH_BYTES / an_image).min(bound as usize).next_multiple_of(64).max(64);
        let layout = Layout { untrained: untrained.is_some(), ..Layout::dense(&readout, timesteps, width) };
        let mut store = Store::default();
        let feed = Feed::new(gpu, layout, &mut store).await?;

        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut notes = vec![
            "The activity was read from stored outputs and representations; what network computed it is not known here.".into(),
        ];
        if init.is_none() {
            notes.push("No activity of the untrained network was given: its numbers are left out.".into());
        }
        for stored in [Some(&trained), untrained.as_ref()].into_iter().flatten() {
            if !stored.names_bias {
                let what = format!(
                    "{} has no array 'readout_bias': taken as the activity of a readout without bias. Where it has one, save it \
                     too: margins depend on it.",
                    stored.path.display()
                );
                note(&mut notes, what);
            }
        }
        let meta = Meta {
            name: file.file_stem().map(|name| name.to_string_lossy().into_owned()),
            images: Some(samples as u64),
            checkpoint: name(file),
            checkpoint_hash: Some(format!("crc32:{:08x} (representations_all)", trained.crc())),
            init_checkpoint: init.and_then(name),
            recurve_version: env!("CARGO_PKG_VERSION").into(),
            notes,
            ..Meta::default()
        };
        let (order, labels, bias) =
            (Order::halves(&trained.labels), trained.labels.clone(), trained.readout_bias.clone());
        let networks =
            [Some(trained), untrained].into_iter().flatten().map(|of| (of, StoredBatch::default())).collect();
        let source = Stored { gpu, feed, width, order: order.clone(), done: 0, labels: labels.clone(), networks };
        let source = Box::new(source);
        Ok(Origin { source, store, layout, order, labels, readout, bias, run: None, meta, training: None })
    }
}
