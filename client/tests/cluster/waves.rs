//! Tasks beyond the free slots run in waves.

use super::{cluster, run};

#[tokio::test(flavor = "multi_thread")]
async fn one_slot_runs_many_tasks_one_after_the_other() {
    let (cluster, client) = cluster(1, 1).await;
    for (name, value) in [("min_bytes_per_partition", "1"), ("max_partitions", "24"), ("tasks_per_slot", "24")] {
        run(&client, &format!("SET volley.{name} = {value}")).await.unwrap();
    }
    let sql = "SELECT l_returnflag, count(*) AS n FROM tpch.sf0_01.lineitem GROUP BY l_returnflag";
    let (rows, job) = run(&client, &format!("SELECT sum(n) AS n FROM ({sql})")).await.unwrap();
    let n = datafusion::arrow::array::AsArray::as_primitive::<datafusion::arrow::datatypes::Int64Type>(rows[0].column(0)).value(0);
    assert_eq!(n, 60_175);
    let job = job.unwrap();
    let most = job.stages.iter().max_by_key(|stage| stage.tasks).unwrap();
    assert!(most.tasks >= 12, "{job:?}");
    for stage in &job.stages {
        assert_eq!((stage.tasks_done, stage.attempts), (stage.tasks, stage.tasks), "each task ran once: {stage:?}");
    }
    // Side by side, the tasks' times would add up to more than the stage took.
    assert!(most.cpu_s + most.wait_s <= most.elapsed_s + 0.01 * f64::from(most.tasks), "{most:?}");
    cluster.shutdown().await.unwrap();
}
