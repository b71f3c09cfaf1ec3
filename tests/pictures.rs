//! Folders of pictures and single pictures as people have them: damaged, transparent, turned, huge, elsewhere, in other
//! formats. What is wrong is refused by name; nothing is left out without a word.

use assert_cmd::Command;
use image::{GrayAlphaImage, ImageBuffer, LumaA, Rgb, RgbImage, Rgba, RgbaImage};
use recurve::Result;
use recurve::dataset::{Dataset, inspect, open};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A picture in which no two pixels are alike.
fn ordinary(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(3 * x) as u8, (5 * y) as u8, (7 * x + 11 * y) as u8]))
}

fn write(root: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(picture).unwrap();
    bytes
}

/// Two classes with two pictures each in each of these splits.
fn folder(splits: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for split in splits {
        for class in ["ant", "bee"] {
            for i in 1..3 {
                write(folder.path(), &format!("{split}/{class}/{i}.png"), &png(&ordinary(16, 16)));
            }
        }
    }
    folder
}

fn opened(folder: &TempDir) -> Result<Arc<dyn Dataset>> {
    open(folder.path().to_str().unwrap(), Some(16))
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

/// The pixels, at 16 x 16, of a picture file with this content.
fn pixels(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let folder = folder(&["train"]);
    write(folder.path(), &format!("val/ant/{name}"), bytes);
    write(folder.path(), "val/bee/1.png", &png(&ordinary(16, 16)));
    Ok(opened(&folder)?.read("val", &[0])?.data)
}

/// The checksum of PNG chunks.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let both = [kind.as_slice(), content].concat();
    [&(content.len() as u32).to_be_bytes(), &*both, &crc(&both).to_be_bytes()].concat()
}

/// A PNG file of these lines (each with its filter's number before it), with chunks before and behind the data.
fn png_of(size: [u32; 2], depth: u8, colour: u8, before: &[u8], lines: &[u8], behind: &[u8]) -> Vec<u8> {
    let header = [&size[0].to_be_bytes(), &size[1].to_be_bytes(), [depth, colour, 0, 0, 0].as_slice()].concat();
    let (a, b) =
        lines.iter().fold((1_u32, 0_u32), |(a, b), &x| ((a + u32::from(x)) % 65521, (a + b + u32::from(x)) % 65521));
    let length = lines.len() as u16; // one block that is not compressed
    let zlib = [
        [0x78, 0x01, 0x01].as_slice(),
        &length.to_le_bytes(),
        &(!length).to_le_bytes(),
        lines,
        &(b << 16 | a).to_be_bytes(),
    ];
    [
        b"\x89PNG\r\n\x1a\n".as_slice(),
        &chunk(b"IHDR", &header),
        before,
        &chunk(b"IDAT", &zlib.concat()),
        behind,
        &chunk(b"IEND", &[]),
    ]
    .concat()
}

/// EXIF data with an orientation of this type and byte order.
fn exif(little: bool, kind: u16, orientation: u8) -> Vec<u8> {
    let number = |value: u32, bytes: usize| match little {
        true => value.to_le_bytes()[..bytes].to_vec(),
        false => value.to_be_bytes()[4 - bytes..].to_vec(),
    };
    let size = [0, 1, 0, 2, 4][usize::from(kind)];
    let mut value = number(orientation.into(), size);
    value.resize(4, 0);
    let begin = if little { b"II*\0" } else { b"MM\0*" };
    let entry = [number(0x112, 2), number(kind.into(), 2), number(1, 4), value].concat();
    [begin.to_vec(), number(8, 4), number(1, 2), entry, number(0, 4)].concat()
}

/// A marker segment of a JPEG file.
fn app(marker: u8, content: &[u8]) -> Vec<u8> {
    [&[0xFF, marker], &(content.len() as u16 + 2).to_be_bytes(), content].concat()
}

#[test]
fn a_cut_picture_is_refused_in_whichever_split_it_lies() {
    let (jpeg, png) = (jpeg(&ordinary(40, 24)), png(&ordinary(40, 24)));
    for split in ["train", "val", "test", "testplus"] {
        for (name, whole) in [("cut.jpg", &jpeg), ("cut.png", &png)] {
            for length in [whole.len() / 20, whole.len() / 3, whole.len() - 40] {
                let folder = folder(&["train", "val", "test", "testplus"]);
                let path = write(folder.path(), &format!("{split}/bee/{name}"), &whole[..length]);
                let error = message(opened(&folder));
                assert!(error.contains(path.to_str().unwrap()), "{split}, {length} bytes: {error}");
            }
        }
    }
}

/// Pictures of 33 x 20 pixels with halved colours, written by Pillow: progressive in ten scans; in one scan with restart
/// marks.
const OTHERS: [(&str, &[u8]); 2] = [
    ("progressive.jpg", include_bytes!("pictures/progressive.jpg")),
    ("restart.jpg", include_bytes!("pictures/restart.jpg")),
];

#[test]
fn a_jpeg_cut_anywhere_is_refused() {
    for (name, whole) in OTHERS {
        let wanted = pixels(name, whole).unwrap();
        for length in (1..whole.len() - 2).step_by(3).chain([whole.len() - 3]) {
            let error = message(pixels(name, &whole[..length]));
            assert!(error.contains(name), "{length}: {error}");
        }
        for length in whole.len() - 2..whole.len() {
            assert_eq!(pixels(name, &whole[..length]).unwrap(), wanted, "{name}: all but the mark of the end");
        }
        // The mark of the end stands behind half of the last scan's data.
        let scan = whole.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).unwrap() + 2;
        let data = scan + usize::from(whole[scan + 1]);
        for length in (data..whole.len() - 2).step_by(2) {
            let error = message(pixels(name, &[&whole[..length], &[0xFF, 0xD9]].concat()));
            assert!(error.contains(name), "{length}: {error}");
        }
    }
}

#[test]
fn no_damage_is_a_panic() {
    let (png, folder) = (png(&ordinary(20, 12)), folder(&["train"]));
    for (name, whole) in OTHERS.into_iter().chain([("a.png", &*png)]) {
        let path = write(folder.path(), &format!("train/ant/{name}"), whole);
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] = [0, 0xFF, bytes[at] ^ 1, bytes[at].wrapping_add(16)][at % 4];
            fs::write(&path, bytes).unwrap();
            let opened = opened(&folder);
            assert!(opened.is_ok() || message(opened).contains(name), "byte {at}");
        }
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_follows_the_pixels_may_be_missing_or_another_picture() {
    let whole = jpeg(&ordinary(40, 24));
    let wanted = pixels("a.jpg", &whole).unwrap();
    assert_eq!(pixels("a.jpg", &whole[..whole.len() - 2]).unwrap(), wanted, "no mark of the end");
    assert_eq!(pixels("a.jpg", &whole[..whole.len() - 1]).unwrap(), wanted, "half a mark of the end");
    let another = jpeg(&RgbImage::new(8, 8));
    assert_eq!(pixels("a.jpg", &[&*whole, &another].concat()).unwrap(), wanted);
    assert_eq!(pixels("a.jpg", &[&*whole, &another[..100]].concat()).unwrap(), wanted);
    let whole = png(&ordinary(40, 24));
    let (wanted, data) = (pixels("a.png", &whole).unwrap(), whole.len() - 12);
    for length in data..whole.len() {
        assert_eq!(pixels("a.png", &whole[..length]).unwrap(), wanted, "no mark of the end, or part of it");
    }
    let text = chunk(b"tEXt", b"Comment\0a text behind the pixels");
    for length in [1, 9, 20, text.len()] {
        assert_eq!(pixels("a.png", &[&whole[..data], &text[..length]].concat()).unwrap(), wanted, "{length}");
    }
    assert_eq!(pixels("a.png", &[&*whole, b"what follows"].concat()).unwrap(), wanted);
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    for (name, bytes, word) in [
        ("empty.png", b"".as_slice(), "empty file (0 bytes)"),
        ("empty.jpeg", b"", "empty file (0 bytes)"),
        ("text.jpg", b"not a picture", "signature"),
        ("other.png", b"RIFF\x10\0\0\0WEBPVP8 ", "WebP"),
        ("start.jpg", b"\xFF\xD8\xFF", "cut"),
        ("start.png", b"\x89PNG\r\n\x1a\n", "cut"),
    ] {
        let error = message(pixels(name, bytes));
        assert!(error.contains(name) && error.contains(word), "{error}");
    }
    let folder = folder(&["train"]);
    fs::create_dir(folder.path().join("train/ant/x.png")).unwrap();
    let error = message(opened(&folder));
    assert!(error.contains("x.png") && error.contains("folder"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = folder(&["train"]);
    let pipe = folder.path().join("train/ant/pipe.jpg");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = message(opened(&folder));
    assert!(error.contains("pipe.jpg") && error.contains("not a file"), "{error}");
}

#[test]
fn hidden_colours_do_not_bleed_through_transparency() {
    // White, and at the right of it pixels that are wholly transparent, with red or black beneath: all of it is white.
    for hidden in [[255, 0, 0, 0], [0, 0, 0, 0], [0, 255, 255, 0]] {
        let paint = |x, _| Rgba(if x < 23 { [255; 4] } else { hidden });
        let mut bytes = std::io::Cursor::new(Vec::new());
        RgbaImage::from_fn(50, 50, paint).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        assert_eq!(pixels("a.png", bytes.get_ref()).unwrap(), [255; 768], "{hidden:?}");
    }
}

#[test]
fn every_kind_of_transparency_lies_on_white() {
    let save = |picture: image::DynamicImage| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    let one = |bytes: &[u8]| {
        let all = pixels("a.png", bytes).unwrap();
        assert!(all.chunks_exact(3).all(|pixel| pixel == &all[..3]), "one colour");
        [all[0], all[1], all[2]]
    };
    // (100 * 51 + 255 * 204) / 255 = 224
    let gray = GrayAlphaImage::from_pixel(16, 16, LumaA([100, 51]));
    assert_eq!(one(&save(gray.into())), [224; 3], "gray and alpha");
    let wide = |x: u16| x * 257;
    let deep = ImageBuffer::from_pixel(16, 16, Rgba([wide(100), wide(0), wide(255), wide(51)]));
    assert_eq!(one(&save(image::DynamicImage::ImageRgba16(deep))), [224, 204, 255], "16 bits and alpha");
    let deep = ImageBuffer::from_pixel(16, 16, LumaA([wide(100), wide(51)]));
    assert_eq!(one(&save(image::DynamicImage::ImageLumaA16(deep))), [224; 3], "16 bits of gray and alpha");

    // Palette: entry 1 has alpha 51, entry 2 is opaque as the table of alphas ends before it.
    let palette = [chunk(b"PLTE", &[1, 2, 3, 100, 0, 255, 7, 8, 9]), chunk(b"tRNS", &[0, 51])].concat();
    for (entry, wanted) in [(0, [255; 3]), (1, [224, 204, 255]), (2, [7, 8, 9])] {
        let lines = [vec![0], vec![entry; 16]].concat().repeat(16);
        assert_eq!(one(&png_of([16, 16], 8, 3, &palette, &lines, &[])), wanted, "palette");
    }
    // One gray, one colour is transparent.
    for (gray, wanted) in [(7, [255; 3]), (8, [8; 3])] {
        let lines = [vec![0], vec![gray; 16]].concat().repeat(16);
        assert_eq!(one(&png_of([16, 16], 8, 0, &chunk(b"tRNS", &[0, 7]), &lines, &[])), wanted, "gray key");
    }
    let lines = [vec![0], [1, 2, 3].repeat(16)].concat().repeat(16);
    assert_eq!(one(&png_of([16, 16], 8, 2, &chunk(b"tRNS", &[0, 1, 0, 2, 0, 3]), &lines, &[])), [255; 3], "colour key");
    assert_eq!(one(&png_of([16, 16], 8, 2, &chunk(b"tRNS", &[0, 1, 0, 2, 0, 4]), &lines, &[])), [1, 2, 3]);
}

/// The picture that stands in the file when it is shown upright with this orientation (EXIF 2.3, tag 0112).
fn upright(stored: &RgbImage, orientation: u8) -> RgbImage {
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    match orientation {
        1 => stored.clone(),
        2 => flip_horizontal(stored),
        3 => rotate180(stored),
        4 => flip_vertical(stored),
        5 => flip_horizontal(&rotate90(stored)),
        6 => rotate90(stored),
        7 => flip_horizontal(&rotate270(stored)),
        _ => rotate270(stored),
    }
}

#[test]
fn pictures_are_upright_wherever_and_however_the_orientation_is_stored() {
    let picture = ordinary(16, 16);
    let (plain_png, plain_jpeg) = (png(&picture), jpeg(&picture));
    let stored_jpeg = image::load_from_memory(&plain_jpeg).unwrap().into_rgb8();
    let end = plain_png.len() - 12;
    for orientation in 1..=8 {
        for (little, kind) in [(true, 3), (false, 3), (true, 4), (false, 4), (true, 1), (false, 1)] {
            let exif = exif(little, kind, orientation);
            let marked = [b"Exif\0\0", &*exif].concat();
            for (before, what) in [
                (app(0xE1, &marked), "first"),
                (
                    [app(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), app(0xE2, &[7; 900]), app(0xE1, &marked)]
                        .concat(),
                    "behind others",
                ),
                (
                    [
                        app(0xFE, b"text"),
                        app(0xE1, &marked),
                        app(0xE1, &[b"Exif\0\0", &*self::exif(true, 3, 3)].concat()),
                    ]
                    .concat(),
                    "twice",
                ),
            ] {
                let bytes = [&plain_jpeg[..2], &before, &plain_jpeg[2..]].concat();
                let found = pixels("a.jpg", &bytes).unwrap();
                assert_eq!(found, upright(&stored_jpeg, orientation).into_raw(), "JPEG, {orientation}, {kind}, {what}");
            }
            let chunk = chunk(b"eXIf", &exif);
            for (at, what) in [(33, "before the data"), (end, "behind the data")] {
                let bytes = [&plain_png[..at], &chunk, &plain_png[at..]].concat();
                let found = pixels("a.png", &bytes).unwrap();
                assert_eq!(found, upright(&picture, orientation).into_raw(), "PNG, {orientation}, {kind}, {what}");
            }
        }
    }
}

/// A stream of zlib, packed.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A profile in hexadecimal digits, as ImageMagick writes it.
fn raw_profile(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<String> =
        bytes.chunks(36).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    format!("\n{kind}\n{:8}\n{}\n", bytes.len(), digits.join("\n")).into()
}

#[test]
fn pictures_are_upright_where_texts_say_how() {
    let picture = ordinary(16, 16);
    let (plain, plain_jpeg) = (png(&picture), jpeg(&picture));
    let stored_jpeg = image::load_from_memory(&plain_jpeg).unwrap().into_rgb8();
    let text = |kind: &[u8; 4], keyword: &str, between: &[u8], text: &[u8]| {
        chunk(kind, &[keyword.as_bytes(), b"\0", between, text].concat())
    };
    for orientation in 1..=8 {
        let exif = exif(true, 3, orientation);
        let xmp = format!("<x:xmpmeta><rdf:Description a=\"1\" tiff:Orientation=\"{orientation}\"/></x:xmpmeta>");
        let segment = [b"http://ns.adobe.com/xap/1.0/\0", xmp.as_bytes()].concat();
        let bytes = [&plain_jpeg[..2], &app(0xE1, &segment), &plain_jpeg[2..]].concat();
        assert_eq!(
            pixels("a.jpg", &bytes).unwrap(),
            upright(&stored_jpeg, orientation).into_raw(),
            "JPEG, {orientation}"
        );

        let name = "XML:com.adobe.xmp";
        let other = text(b"tEXt", "Comment", b"", b"tiff:Orientation=\"3\"");
        let marked = [b"Exif\0\0", &*exif].concat();
        for (what, chunks) in [
            ("XMP", text(b"iTXt", name, b"\0\0\0\0", xmp.as_bytes())),
            ("XMP in another language", text(b"iTXt", name, b"\0\0de\0X\0", xmp.as_bytes())),
            ("packed XMP", text(b"iTXt", name, b"\x01\0\0\0", &zlib(xmp.as_bytes()))),
            ("exif", text(b"tEXt", "Raw profile type exif", b"", &raw_profile("exif", &exif))),
            ("packed exif", text(b"zTXt", "Raw profile type exif", b"\0", &zlib(&raw_profile("exif", &marked)))),
            ("APP1", text(b"zTXt", "Raw profile type APP1", b"\0", &zlib(&raw_profile("app1", &marked)))),
            ("APP1 with XMP", text(b"zTXt", "Raw profile type APP1", b"\0", &zlib(&raw_profile("app1", &segment)))),
            (
                "the chunk before texts",
                [
                    text(b"iTXt", name, b"\0\0\0\0", b"<a tiff:Orientation=\"3\"/>"),
                    text(b"tEXt", "Raw profile type exif", b"", &raw_profile("exif", &self::exif(true, 3, 3))),
                    chunk(b"eXIf", &exif),
                ]
                .concat(),
            ),
        ] {
            for at in [33, plain.len() - 12] {
                let bytes = [&plain[..at], &other, &chunks, &plain[at..]].concat();
                let found = pixels("a.png", &bytes).unwrap();
                assert_eq!(found, upright(&picture, orientation).into_raw(), "PNG, {orientation}, {what}, at {at}");
            }
        }
    }
}

#[test]
fn texts_about_the_orientation_that_cannot_be_unpacked_are_refused() {
    let plain = png(&ordinary(16, 16));
    let with = |keyword: &[u8], packed: &[u8]| {
        let text = chunk(b"zTXt", &[keyword, b"\0\0", packed].concat());
        pixels("a.png", &[&plain[..33], &text, &plain[33..]].concat())
    };
    for keyword in [b"Raw profile type exif".as_slice(), b"XML:com.adobe.xmp"] {
        assert!(message(with(keyword, b"no zlib")).contains("which way up"));
        assert!(message(with(keyword, &zlib(&vec![b' '; (16 << 20) + 1]))).contains("16777216 bytes"));
    }
    assert_eq!(with(b"Comment", b"no zlib").unwrap(), ordinary(16, 16).into_raw());
}

#[test]
fn declared_sizes_beyond_the_bound_are_refused_before_memory_is_asked_for() {
    let mut huge = jpeg(&ordinary(16, 16));
    let frame = huge.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    huge[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
    for (name, bytes) in [
        ("huge.png", png_of([60_000, 60_000], 8, 2, &[], &[0; 100], &[])),
        ("over.png", png_of([8192, 8193], 16, 6, &[], &[0; 100], &[])),
        ("huge.jpg", huge),
    ] {
        let folder = folder(&["train"]);
        write(folder.path(), &format!("train/ant/{name}"), &bytes);
        let error = message(opened(&folder));
        assert!(error.contains(name) && error.contains("67108864"), "{error}");
        #[cfg(target_os = "linux")]
        {
            let limited = "ulimit -v 1000000; exec \"$0\" data inspect \"$1\"";
            let mut command = Command::new("bash");
            command.args(["-c", limited, env!("CARGO_BIN_EXE_recurve"), folder.path().to_str().unwrap()]);
            let output = command.output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(1) && error.contains(name), "{error}");
        }
    }
    // A line of pixels would become 64 lines of 16 million when its shorter side is scaled.
    let narrow = png(&RgbImage::new(1, 60_000));
    let folder = folder(&["train"]);
    write(folder.path(), "train/ant/line.png", &narrow);
    let error = message(open(folder.path().to_str().unwrap(), Some(64)));
    assert!(error.contains("line.png") && error.contains("1 x 60000"), "{error}");
}

#[test]
fn pictures_in_folders_within_a_class_are_read_and_said() {
    let folder = folder(&["train", "val"]);
    for i in 0..3 {
        write(folder.path(), &format!("train/ant/zoomed/deep/{i}.png"), &png(&ordinary(16, 16)));
    }
    fs::remove_dir_all(folder.path().join("val/bee")).unwrap();
    write(folder.path(), "val/bee/images/1.JPEG", &jpeg(&ordinary(16, 16)));
    let data = opened(&folder).unwrap();
    assert_eq!(data.labels("train").unwrap(), [0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(data.labels("val").unwrap(), [0, 0, 1]);
    let notes = data.notes().join("\n");
    assert!(notes.contains("4 pictures lie in folders within"), "{notes}");
    assert!(notes.contains("zoomed") && notes.contains("images"), "{notes}");
}

#[test]
fn what_lies_elsewhere_is_said() {
    let folder = folder(&["train", "val"]);
    write(folder.path(), "validation/ant/1.png", &png(&ordinary(16, 16)));
    write(folder.path(), "train/loose.png", &png(&ordinary(16, 16)));
    write(folder.path(), "val/loose.webp", b"RIFF");
    write(folder.path(), "top.jpg", b"picture");
    write(folder.path(), "README.txt", b"text");
    let notes = opened(&folder).unwrap().notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    for word in ["train/loose.png", "val/loose.webp", "left out", "and 1 more"] {
        assert!(notes[0].replace('\\', "/").contains(word), "`{word}` is not in {notes:?}");
    }
    write(folder.path(), "test", b"a file");
    assert!(message(opened(&folder)).contains("test"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_broken_ones_refused() {
    use std::os::unix::fs::symlink;
    let linked = folder(&["train"]);
    symlink("train", linked.path().join("val")).unwrap();
    symlink("ant", linked.path().join("train/cat")).unwrap();
    symlink("1.png", linked.path().join("train/ant/x.png")).unwrap();
    let data = opened(&linked).unwrap();
    assert_eq!(data.labels("train").unwrap(), [0, 0, 0, 1, 1, 2, 2, 2]);
    assert_eq!(data.len("val").unwrap(), 8);
    for place in ["train/dog", "val", "test", "train/ant/5.png", "train/ant/more"] {
        let broken = folder(&["train"]);
        symlink("gone", broken.path().join(place)).unwrap();
        let error = message(opened(&broken));
        assert!(error.contains(place) && error.contains("link to gone"), "{error}");
    }
    let round = folder(&["train"]);
    symlink("..", round.path().join("train/ant/up")).unwrap();
    let error = message(opened(&round));
    assert!(error.contains("up") && error.contains("link back"), "{error}");
}

#[test]
fn a_class_has_one_name_whatever_its_unicode_form() {
    let name = ["Mo\u{308}we", "M\u{f6}we"];
    let both = tempfile::tempdir().unwrap();
    for (split, class) in [("train", name[0]), ("train", "ant"), ("val", name[1]), ("val", "ant")] {
        write(both.path(), &format!("{split}/{class}/1.png"), &png(&ordinary(16, 16)));
    }
    let data = opened(&both).unwrap();
    assert_eq!(data.classes(), [name[1], "ant"]);
    assert_eq!((data.len("train").unwrap(), data.labels("val").unwrap()), (2, vec![0, 1]));
    write(both.path(), &format!("train/{}/1.png", name[1]), &png(&ordinary(16, 16)));
    // Some file systems know one form alone, so that there is one folder.
    if fs::read_dir(both.path().join("train")).unwrap().count() == 3 {
        assert!(message(opened(&both)).contains("Unicode form"));
    }
}

/// A configuration of a network that is small enough to be trained in a test.
fn tiny(root: &Path) -> PathBuf {
    let text = "[network]\nimage_size = 16\nstem_channels = 4\narea_channels = [4, 4, 4, 4]\ntimesteps = 2\n\
                [training]\nbatch = 2\nsteps = 2\n";
    write(root, "tiny.toml", text.as_bytes())
}

#[test]
fn training_and_analysis_say_what_inspection_notes() {
    let (folder, out) = (folder(&["train", "val"]), tempfile::tempdir().unwrap());
    for class in ["ant", "bee"] {
        write(folder.path(), &format!("train/{class}/5.webp"), b"picture");
        write(folder.path(), &format!("val/{class}/6.tif"), b"picture");
        write(folder.path(), &format!("val/{class}/notes"), b"text");
    }
    let wanted = "6 files in the class folders are not .png, .jpg or .jpeg and were passed over: 2 .tif, 2 .webp, \
                  2 no ending";
    let found = inspect::inspect(folder.path().to_str().unwrap()).unwrap();
    assert_eq!(found.notes, [wanted]);
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_recurve")).args(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{error}");
        error
    };
    let (data, config) = (folder.path().to_str().unwrap(), tiny(out.path()));
    let (config, trained) = (config.to_str().unwrap(), out.path().join("run"));
    let trained = trained.to_str().unwrap();
    let note = format!("note: {wanted}");
    assert!(run(&["train", "--data", data, "--config", config, "--out", trained]).contains(&note));
    assert!(run(&["analyse", trained, "--split", "val"]).contains(&note));
    assert!(
        run(&["extract", trained, "--split", "val", "--out", out.path().join("x.npz").to_str().unwrap()])
            .contains(&note)
    );
    assert!(run(&["data", "sheet", data, "--out", out.path().join("s.png").to_str().unwrap()]).contains(&note));
    for file in ["report.json", "report.html"] {
        let report = fs::read_to_string(Path::new(trained).join("report").join(file)).unwrap();
        assert!(report.contains(wanted), "{file}");
    }
}

#[test]
fn pictures_of_one_colour_are_counted() {
    let folder = folder(&["train", "val"]);
    for i in 0..3 {
        let grey = RgbImage::from_pixel(16, 16, Rgb([9, 9, 9]));
        write(folder.path(), &format!("train/ant/grey{i}.png"), &png(&grey));
    }
    let mut nearly = RgbImage::new(64, 64);
    nearly.put_pixel(63, 63, Rgb([0, 0, 1]));
    write(folder.path(), "val/ant/nearly.png", &png(&nearly));
    let found = inspect::inspect(folder.path().to_str().unwrap()).unwrap();
    assert_eq!(found.splits.iter().map(|split| split.one_colour).collect::<Vec<_>>(), [3, 0]);
    assert!(
        found.notes.len() == 1 && found.notes[0].contains("one colour") && found.notes[0].contains("3 of 7 in train")
    );
}

/// Where no thread can be started: none has room for such a stack.
#[cfg(target_os = "linux")]
#[test]
fn commands_work_on_the_thread_there_is() {
    let (folder, out) = (folder(&["train", "val"]), tempfile::tempdir().unwrap());
    let (data, config, trained) = (folder.path(), tiny(out.path()), out.path().join("run"));
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recurve"));
        let output = command.env("RUST_MIN_STACK", (1_u64 << 46).to_string()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["data".as_ref(), "inspect".as_ref(), data.as_ref()]);
    let train = ["train".as_ref(), "--data".as_ref(), data.as_ref(), "--config".as_ref(), config.as_ref()];
    run(&[train.as_slice(), &["--out".as_ref(), trained.as_ref()]].concat());
    run(&["analyse".as_ref(), trained.as_ref(), "--split".as_ref(), "val".as_ref()]);
    run(&["plan".as_ref(), "--config".as_ref(), config.as_ref()]);
}

/// A large folder is listed when it is opened; what is damaged in it ends the training by name, before an epoch is over.
#[test]
fn pictures_of_a_large_folder_are_looked_at_while_the_network_trains() {
    const COUNT: usize = 10_030; // of each of two classes: more than are decoded at the start
    let folder = folder(&["val", "test"]);
    let one = write(folder.path(), "one.png.txt", &png(&ordinary(16, 16)));
    for class in ["ant", "bee"] {
        let place = folder.path().join("train").join(class);
        fs::create_dir_all(&place).unwrap();
        (0..COUNT).for_each(|i| fs::hard_link(&one, place.join(format!("{i:05}.png"))).unwrap());
    }
    let data = opened(&folder).unwrap();
    let notes = data.notes().join("\n");
    assert!(
        notes.contains("8192 of its 20060 training pictures") && notes.contains("while the network trains"),
        "{notes}"
    );
    assert_eq!(data.unverified(), ["train", "val", "test"]);
    data.verify("val").unwrap();
    assert_eq!(data.read("train", &[20_059]).unwrap().data, ordinary(16, 16).into_raw());

    let config = tiny(folder.path());
    let train = |name: &str, more: &[&str]| {
        let mut command = Command::cargo_bin("recurve").unwrap();
        command
            .args(["train", "--no-tune", "--batch", "512", "--data"])
            .arg(folder.path())
            .arg("--config")
            .arg(&config);
        command.arg("--out").arg(folder.path().join(name)).args(more);
        command
    };
    // Which picture is decoded for the statistics is known: this one is not.
    let damaged = folder.path().join("train/bee/09999.png");
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, &png(&ordinary(16, 16))[..60]).unwrap();
    opened(&folder).expect("nothing is found yet");
    let output = train("bad", &["--epochs", "2"]).assert().code(1).get_output().clone();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("09999.png") && error.contains("steps are saved"), "{error}");
    let log = fs::read_to_string(folder.path().join("bad/metrics.jsonl")).unwrap();
    assert!(!log.contains("\"epoch\",\"epoch\""), "no epoch has ended: {log}");

    fs::remove_file(&damaged).unwrap();
    fs::hard_link(&one, &damaged).unwrap();
    train("good", &["--epochs", "1"]).assert().success();
    let log = fs::read_to_string(folder.path().join("good/metrics.jsonl")).unwrap();
    assert!(log.contains("\"split\":\"train\"") && log.contains("\"images\":20060"), "{log}");
}
