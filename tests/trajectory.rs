//! The stored analyses of the golden folder.

mod golden_folder;

use std::path::PathBuf;

use golden_folder::golden_folder;
use recurve::trajectory::goldens::Golden;

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_analyses() {
    let folder = golden_folder("golden");
    let files = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let mut found = 0;
    let mut problems = Vec::new();
    for path in paths {
        let Some(golden) = Golden::open(&path).unwrap() else { continue };
        found += 1;
        let exact = golden.check_exact().unwrap();
        let statistics = golden.streamed(64).unwrap();
        let streamed = golden.check(&statistics).unwrap();
        println!(
            "{}: exact {:.1e} ({}), streamed {:.1e} ({})",
            path.file_name().unwrap().display(),
            exact.largest_error,
            exact.largest_at,
            streamed.largest_error,
            streamed.largest_at
        );
        for (what, comparison) in [("exact", exact), ("streamed", streamed)] {
            if let Some((offence, count)) = comparison.offence {
                problems.push(format!("{}, {what}: {offence} and {} more", path.display(), count - 1));
            }
        }
    }
    assert!(found > 0, "{} holds no analysis", folder.display());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
