//! `cltraft bench`: one line for each kind of operation.

use crate::pattern::assert_like;
use crate::tools::Cluster;

#[test]
fn every_operation_is_measured_in_one_line() {
    let cluster = Cluster::start();
    for op in ["put", "get", "local-get", "mixed"] {
        let said = cluster.ask(&[
            "bench",
            "--op",
            op,
            "--clients",
            "4",
            "--conns",
            "2",
            "--seconds",
            "1",
            "--value-size",
            "64",
            "--keys",
            "32",
            "-o",
            "json",
        ]);
        assert_like(
            said.fine(),
            &format!(
                "{{\"op\":\"{op}\",\"clients\":4,\"conns\":2,\"seconds\":1,\"value_size\":64,\
                 \"keys\":32,\"ops_per_s\":<x>,\"p50_us\":<n>,\"p90_us\":<n>,\"p99_us\":<n>,\
                 \"p999_us\":<n>,\"max_us\":<n>,\"errors\":0}}\n"
            ),
        );
        let object = said.object();
        assert!(object["ops_per_s"].as_f64().is_some_and(|speed| speed > 1.0), "{object}");
        let quantiles = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
        let us: Vec<_> = quantiles.iter().map(|name| object[name].as_u64()).collect();
        assert!(us.is_sorted() && us[0] > Some(0), "{object}");
    }
    let text = cluster.ask(&["bench", "--clients", "1", "--seconds", "1"]);
    assert_like(
        text.fine(),
        "put: <n> operations/s, 1 clients on 1 connections, 1 s\n\
         \x20 p50 <text> ms\n  p90 <text> ms\n  p99 <text> ms\n  p999 <text> ms\n\
         \x20 max <text> ms\n  errors 0\n",
    );
}
