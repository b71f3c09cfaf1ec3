//! Pictures to network input: `x = (image / 255 - mean / 255) / (std / 255)`, in f32 as the published data set class does.

/// x `[n,3,size,size]`, from `images` u8 `[n,size,size,3]` and the training set's channel mean and standard deviation
/// on the 0..255 scale.
pub fn normalise(images: &[u8], size: usize, mean: [f64; 3], std: [f64; 3]) -> Vec<f32> {
    let pixels = size * size;
    assert_eq!(images.len() % (pixels * 3), 0, "whole pictures of {size} x {size} x 3 bytes");
    let mut x = Vec::with_capacity(images.len());
    for image in images.chunks(pixels * 3) {
        for c in 0..3 {
            let (mean, std) = ((mean[c] / 255.0) as f32, (std[c] / 255.0) as f32);
            x.extend((0..pixels).map(|i| (image[i * 3 + c] as f32 / 255.0 - mean) / std));
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_first() {
        let x = normalise(&[255, 0, 51, 0, 0, 0, 0, 0, 0, 0, 0, 0], 2, [0.0, 0.0, 51.0], [255.0, 255.0, 51.0]);
        assert_eq!(x, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0]);
    }
}
