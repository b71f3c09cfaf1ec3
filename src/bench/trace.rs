//! A step as a trace that Perfetto and Chrome (`chrome://tracing`) show: one track per area, one event per launch.

use super::step::Timed;
use serde_json::{Value, json};

/// The trace: times in microseconds. `parts_by` says where they come from, and is written into it.
pub fn trace(title: &str, parts_by: &str, launches: &[Timed]) -> Value {
    let mut areas: Vec<&str> = Vec::new();
    for launch in launches {
        if !areas.contains(&launch.area.as_str()) {
            areas.push(&launch.area);
        }
    }
    let track = |area: &str| 1 + areas.iter().position(|a| *a == area).expect("listed above");
    let named = |name: &str, tid: usize, value: &str| json!({"ph": "M", "pid": 1, "tid": tid, "name": name, "args": {"name": value}});
    let mut events = vec![named("process_name", 0, &format!("{title} (times: {parts_by})"))];
    for area in &areas {
        events.push(named("thread_name", track(area), if area.is_empty() { "other" } else { area }));
        events.push(json!({"ph": "M", "pid": 1, "tid": track(area), "name": "thread_sort_index", "args": {"sort_index": track(area)}}));
    }
    events.extend(launches.iter().enumerate().map(|(i, launch)| {
        let Timed { label, op, kernel, area, timestep, grid, begin_us, duration_us } = launch;
        let args = json!({"launch": i, "kernel": kernel, "area": area, "timestep": timestep, "grid": grid});
        let tid = track(area);
        json!({"ph": "X", "pid": 1, "tid": tid, "ts": begin_us, "dur": duration_us, "name": label, "cat": op, "args": args})
    }));
    json!({"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"title": title, "times": parts_by}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_launch_is_an_event_on_the_track_of_its_area() {
        let launch = |label: &str, area: &str, begin_us: f64| Timed {
            label: label.into(),
            op: "conv2d".into(),
            kernel: "conv2d/k3".into(),
            area: area.into(),
            timestep: Some(1),
            grid: [1, 2, 3],
            begin_us,
            duration_us: 2.5,
        };
        let launches = [launch("conv2d a", "v1", 0.0), launch("conv2d b", "v2", 2.5), launch("conv2d c", "v1", 5.0)];
        let text = trace("tiny", "timestamps", &launches).to_string();
        let value: Value = serde_json::from_str(&text).unwrap();
        let events = value["traceEvents"].as_array().unwrap();
        let timed: Vec<&Value> = events.iter().filter(|e| e["ph"] == "X").collect();
        assert_eq!(timed.len(), 3);
        assert_eq!(
            (&timed[1]["name"], &timed[1]["ts"], &timed[1]["dur"]),
            (&json!("conv2d b"), &json!(2.5), &json!(2.5))
        );
        assert_eq!(timed[0]["tid"], timed[2]["tid"]);
        assert_ne!(timed[0]["tid"], timed[1]["tid"]);
        assert_eq!((&timed[2]["args"]["timestep"], &timed[2]["cat"]), (&json!(1), &json!("conv2d")));
    }
}
