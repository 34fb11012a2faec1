"""What lode plan says of an experiment beside what a run of it takes.

    tests/bench/plan.py LODE EXPERIMENT.cfg RANKS [--machine BENCH.json] [--set key=value ...]

Runs one stage after the other into a folder of its own, watches the private memory of every rank
(RssAnon of /proc/PID/status, the most that was seen), and prints for each: predicted and measured
private memory of the rank that has most, bytes of the result file, seconds (of one rank: processor
time, so threads must be 1). The plan is made after tokenize, so that token counts are exact.
"""
import json, os, resource, subprocess, sys, tempfile, time

PASS = ("calibrate", "accumulate", "moments")  # one pass, run together


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            own = [int(child) for child in file.read().split()]
    except OSError:
        return []
    return own + [deeper for child in own for deeper in children(child)]


def private(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if "lode" not in fields.get("Name", ""):
        return 0
    return int(fields.get("RssAnon", "0").split()[0]) * 1024


def watched(command, environment):
    """Runs a command; the most private bytes of any process, and what it wrote to stderr."""
    peak = 0
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            for pid in [process.pid] + children(process.pid):
                peak = max(peak, private(pid))
            time.sleep(0.003)
        log.seek(0)
        if process.returncode != 0:
            sys.exit(" ".join(command) + "\n" + log.read())
    return peak


def main():
    lode, experiment, ranks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rest = sys.argv[4:]
    machine = [a for i, a in enumerate(rest) if "--machine" in (a, rest[i - 1] if i else "")]
    settings = [a for i, a in enumerate(rest) if "--set" in (a, rest[i - 1] if i else "")]
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                       OMPI_MCA_mpi_yield_when_idle="1")
    folder = tempfile.mkdtemp(prefix="lode-plan-")
    settings += ["--set", f"results={folder}"]
    start = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks > 1 else []

    def clock():
        """One rank of one thread never waits: its processor time is that of an idle machine."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime if ranks == 1 else time.time()

    def run(stages):
        before = clock()
        peak = watched(start + [lode, "run", experiment, "--stages", ",".join(stages)] + settings,
                       environment)
        return peak, clock() - before

    measured = {"tokenize": run(["tokenize"])}
    idle = run(["tokenize"])[1]  # what starting takes: the stage is complete
    said = subprocess.run([lode, "plan", experiment, "--ranks", str(ranks), "--json"] + settings +
                          machine, env=environment, capture_output=True, text=True)
    if said.returncode != 0:
        sys.exit(said.stderr)
    plan = json.loads(said.stdout)[0]
    stages = [s for s in plan["stages"] if s not in ("tokenize",) + PASS]
    together = [s for s in PASS if s in plan["stages"]]
    measured["calibrate"] = run(together)
    for stage in stages:
        measured[stage] = run([stage])

    print(f"{plan['model']['name']}, {ranks} ranks, SGEMM {plan['machine']['sgemm_gflops']:.1f} "
          f"GFLOP/s; starting takes {idle:.2f} s, taken off")
    print(f"{'stage':<12}{'private MB':>24}{'file MB':>26}{'seconds':>24}")
    print(f"{'':<12}" + "".join(f"{'plan':>8}{'run':>8}{'':>8}" for _ in range(3)))
    for stage in ["tokenize"] + together + stages:
        said_memory = max(rank["stages"].get(stage, {"peak": 0})["peak"]
                          for rank in plan["per_rank"])
        path = None
        for root, _, files in os.walk(folder):
            if stage + ".h5" in files:
                path = os.path.join(root, stage + ".h5")
        got_file = os.path.getsize(path) if path else 0
        row = f"{stage:<12}"
        peak, took = measured.get(stage, (0, 0))
        # The process that has nothing to moments' products is that of the pass.
        if stage == "calibrate" and "moments" in together:
            said_memory = max(said_memory, max(rank["stages"]["moments"]["peak"]
                                               for rank in plan["per_rank"]))
        for value, got, scale in ((said_memory, peak, 1e6),
                                  (plan["stages"][stage]["file"], got_file, 1e6),
                                  (plan["stages"][stage]["seconds"] +
                                   (plan["stages"]["moments"]["seconds"]
                                    if stage == "calibrate" and "moments" in together else 0),
                                   max(0, took - idle), 1)):
            if got == 0:
                row += " " * 24
                continue
            row += f"{value / scale:8.2f}{got / scale:8.2f}{100 * (value / got - 1):+7.0f}%"
        print(row)
    subprocess.run(["rm", "-rf", folder], check=False)


main()
