// What changes from batch to batch.
struct Batch {
  images: u32,  // images it holds: the first of `width`; the others are padding
  filled: u32,  // rows of the panels that earlier batches have filled
  first: u32,   // number of its first image in the stream
  fresh: u32,   // 1 for the first batch of the stream
  tested: u32,  // test images before it
}
