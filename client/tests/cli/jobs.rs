//! Jobs and executors of a cluster of processes, from the command line.

use serde_json::Value;

use super::program::{Ended, command};
use crate::processes::Processes;

fn on(processes: &Processes, arguments: &[&str]) -> Ended {
    command(&[arguments, &["--cluster", processes.url()]].concat()).output().unwrap().into()
}

fn json(processes: &Processes, arguments: &[&str]) -> Value {
    let ended = on(processes, &[arguments, &["--format", "json"]].concat());
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{arguments:?}");
    serde_json::from_str(&ended.out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_told_with_its_stages_and_its_plan() {
    let processes = Processes::shared().await;
    let sum = "SELECT o_orderpriority, sum(o_totalprice) AS told_by_volley_job FROM tpch.sf0_01.orders GROUP BY 1";
    let wrong = "SELECT 1 / (o_orderkey - o_orderkey) AS failed_for_volley_job FROM tpch.sf0_01.orders";
    let fit = "SET volley.fit = 'never'";
    let ended = on(&processes, &["sql", "--format", "none", "--keep-going", "-c", fit, "-c", sum, "-c", wrong]);
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    let jobs = json(&processes, &["jobs", "--limit", "0"]);
    let find = |text: &str| jobs.as_array().unwrap().iter().find(|job| job["statement"].as_str().unwrap().contains(text)).unwrap().clone();
    let (done, failed) = (find("told_by_volley_job"), find("failed_for_volley_job"));
    assert_eq!([&done, &failed].map(|job| job["state"].as_str()), [Some("finished"), Some("failed")]);

    let id = done["job"].as_str().unwrap();
    let job = json(&processes, &["job", id]);
    assert_eq!((job["job"].as_str(), job["result_rows"].as_u64()), (Some(id), Some(5)));
    let stages = job["stages"].as_array().unwrap();
    assert!(stages.len() >= 2 && stages.iter().all(|stage| stage["tasks"] == stage["tasks_done"]), "{job}");
    let shown = on(&processes, &["job", id]).out;
    assert!(shown.starts_with(&format!("{id} finished in ")) && shown.contains(sum) && shown.contains("| s0"), "{shown}");
    assert!(shown.contains("AggregateExec: ") && shown.contains(" rows]"), "{shown}");

    let shown = on(&processes, &["job", failed["job"].as_str().unwrap()]).out;
    assert!(shown.contains("\nerror: ") && shown.contains("ivide by zero"), "{shown}");
    let cancelled = json(&processes, &["cancel", id]);
    assert_eq!(cancelled, serde_json::json!({ "job": id, "state": "finished" }), "what has ended stays as it is");
    let executors = json(&processes, &["executors"]);
    let states: Vec<_> =
        executors.as_array().unwrap().iter().map(|executor| (executor["state"].as_str(), executor["slots"].as_u64())).collect();
    assert_eq!(states, [(Some("live"), Some(2)); 2]);
}
