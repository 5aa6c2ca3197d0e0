// SPDX-License-Identifier: Apache-2.0
#include "servers_int.h"
#include "free_port.h"
#include "base/clock.h"
#include "base/str.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { SERVERS_MAX = 16, READY_S = 180 };

// What the janitor knows: it outlives the test, however that ends.
struct janitor {
    pid_t test;
    struct {
        atomic_int pid;
        char dir[96];
    } server[SERVERS_MAX];
};

static struct janitor *janitor;
static struct ts_server *shared[2];

// ---- processes ----

// Fields of /proc/PID/stat after the name: [0] state, [1] parent, [11] utime, [12] stime, ...
static bool read_stat(pid_t pid, long long field[16])
{
    char path[64], buf[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return false;
    buf[n] = 0;
    char *p = strrchr(buf, ')');
    if (!p || !p[1] || !p[2])
        return false;
    field[0] = p[2];
    p += 3;
    for (int i = 1; i < 16; i++)
        field[i] = strtoll(p, &p, 10);
    return true;
}

// The process and its children (a database's are no deeper). Returns how many.
static int find_tree(pid_t root, pid_t *pids, int cap)
{
    DIR *d = opendir("/proc");
    int n = 0;
    long long field[16];
    if (cap > 0)
        pids[n++] = root;
    for (struct dirent *e; d && (e = readdir(d));) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        if (pid > 0 && n < cap && read_stat(pid, field) && field[1] == root)
            pids[n++] = pid;
    }
    if (d)
        closedir(d);
    return n;
}

static void signal_tree(pid_t root, int sig)
{
    pid_t pids[512];
    // The parent first, so that it makes no more of them.
    int n = find_tree(root, pids, 512);
    for (int i = 0; i < n; i++)
        kill(pids[i], sig);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void remove_dir(const char *dir)
{
    // What dies may still write.
    for (int i = 0; i < 20 && nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT;
         i++)
        poll(NULL, 0, 20);
}

// Waits for the test to end, then removes what it left.
static void run_janitor(void)
{
    prctl(PR_SET_NAME, "test-janitor");
    for (int fd = 0; fd < 1024; fd++) // who reads the test's output waits for its end
        close(fd);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    while (getppid() == janitor->test)
        poll(NULL, 0, 200);
    for (int i = 0; i < SERVERS_MAX; i++) {
        pid_t pid = atomic_load(&janitor->server[i].pid);
        if (pid > 0)
            signal_tree(pid, SIGKILL);
        if (pid)
            remove_dir(janitor->server[i].dir);
    }
    _exit(0);
}

static void stop_shared(void)
{
    if (!janitor || getpid() != janitor->test)
        return; // a child of the test
    for (int i = 0; i < 2; i++) {
        ts_stop(shared[i]);
        shared[i] = NULL;
    }
}

static void start_janitor(void)
{
    if (janitor)
        return;
    janitor =
        mmap(NULL, sizeof(*janitor), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(janitor != MAP_FAILED);
    janitor->test = getpid();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setsid();
        run_janitor();
    }
    atexit(stop_shared);
}

// ---- running commands as the server's user ----

static void drop_rights(const char *name)
{
    if (geteuid() != 0)
        return;
    struct passwd *pw = getpwnam(name);
    if (!pw)
        pw = getpwnam("nobody");
    if (!pw || setgroups(0, NULL) || setgid(pw->pw_gid) || setuid(pw->pw_uid))
        _exit(126);
}

static const char *user_of(enum ts_kind kind)
{
    return kind == TS_POSTGRES ? "postgres" : "mysql";
}

static void give_to_user(const struct ts_server *s, const char *path)
{
    struct passwd *pw = geteuid() == 0 ? getpwnam(user_of(s->kind)) : NULL;
    if (geteuid() == 0 && !pw)
        pw = getpwnam("nobody");
    if (pw && chown(path, pw->pw_uid, pw->pw_gid))
        fail_msg("chown %s: %s", path, strerror(errno));
}

pid_t ts_spawn(const struct ts_server *s, const char *log, int in, int out, const char *const *argv)
{
    char path[160];
    pid_t parent = getpid();
    snprintf(path, sizeof(path), "%s/%s", s->dir, log);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        drop_rights(user_of(s->kind));
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(127);
        setpgid(0, 0); // a terminal's ^C is not for it
        dup2(in >= 0 ? in : open("/dev/null", O_RDONLY), 0);
        dup2(out >= 0 ? out : fd, 1);
        dup2(fd, 2);
        if (chdir(s->dir))
            _exit(126);
        setenv("HOME", s->dir, 1);
        setenv("LC_ALL", "C", 1);
        unsetenv("PGHOST");
        unsetenv("PGDATABASE");
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(fd);
    return pid;
}

static void show_log(const struct ts_server *s, const char *log)
{
    char path[160], line[512];
    snprintf(path, sizeof(path), "%s/%s", s->dir, log);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        print_message("%s: %s", log, line);
    if (f)
        fclose(f);
}

void ts_run(const struct ts_server *s, const char *log, const char *const *argv)
{
    int status;
    pid_t pid = ts_spawn(s, log, -1, -1, argv);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        show_log(s, log);
        fail_msg("%s: status %d", argv[0], status);
    }
}

void ts_write_file(const struct ts_server *s, const char *name, int mode, const char *text)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", s->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    give_to_user(s, path);
}

// ---- certificates ----

static void sign(struct ts_server *s, const char *name, const char *subject, const char *ext)
{
    char key[32], csr[32], crt[32], cnf[32];
    snprintf(key, sizeof(key), "%s.key", name);
    snprintf(csr, sizeof(csr), "%s.csr", name);
    snprintf(crt, sizeof(crt), "%s.crt", name);
    snprintf(cnf, sizeof(cnf), "%s.ext", name);
    ts_write_file(s, cnf, 0644, ext);
    const char *const req[] = {
        "openssl", "req",     "-newkey", "ec",   "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes",  "-keyout", key,       "-out", csr,        "-subj",
        subject,   NULL};
    const char *const x509[] = {
        "openssl",         "x509",  "-req", "-in",      csr, "-CA",  "ca.crt", "-CAkey", "ca.key",
        "-CAcreateserial", "-days", "30",   "-extfile", cnf, "-out", crt,      NULL};
    ts_run(s, "openssl.log", req);
    ts_run(s, "openssl.log", x509);
}

static void make_certs(struct ts_server *s)
{
    const char *const ca[] = {"openssl",
                              "req",
                              "-x509",
                              "-newkey",
                              "ec",
                              "-pkeyopt",
                              "ec_paramgen_curve:P-256",
                              "-nodes",
                              "-keyout",
                              "ca.key",
                              "-out",
                              "ca.crt",
                              "-days",
                              "30",
                              "-subj",
                              "/CN=test CA",
                              NULL};
    ts_run(s, "openssl.log", ca);
    sign(s, "server", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    sign(s, "client", "/CN=kine", "extendedKeyUsage=clientAuth\n");
}

// ---- making a server ----

static void add_user(struct ts_server *s)
{
    if (s->kind == TS_POSTGRES)
        ts_sql(s, NULL, "CREATE ROLE kine LOGIN CREATEDB PASSWORD '" TS_PASSWORD "'", NULL, 0);
    else if (s->tls == TS_TLS_CLIENT_CERT)
        ts_sql(s, NULL,
               "CREATE USER kine@'%' IDENTIFIED BY '" TS_PASSWORD "' REQUIRE X509;"
               "GRANT ALL ON *.* TO kine@'%'",
               NULL, 0);
    else
        ts_sql(s, NULL,
               "CREATE USER kine@'%' IDENTIFIED BY '" TS_PASSWORD "';"
               "GRANT ALL ON *.* TO kine@'%'",
               NULL, 0);
}

// ---- up and down ----

static struct ts_server *node_that_fails(struct ts_server *s)
{
    return s->second ? s->second : s;
}

static void up(struct ts_server *s)
{
    int64_t until = kl_mono_ms() + READY_S * 1000;
    int status;
    if (s->kind == TS_POSTGRES)
        ts_postgres_spawn(s);
    else
        ts_mysql_spawn(s);
    atomic_store(&janitor->server[s->at].pid, s->pid);
    while (!(s->kind == TS_POSTGRES ? ts_postgres_is_ready(s) : ts_mysql_is_ready(s))) {
        bool gone = waitpid(s->pid, &status, WNOHANG) == s->pid;
        if (gone && s->kind == TS_POSTGRES && kl_mono_ms() <= until) {
            poll(NULL, 0, 50); // children of one that was killed may still have its memory
            ts_postgres_spawn(s);
            atomic_store(&janitor->server[s->at].pid, s->pid);
            continue;
        }
        if (gone || kl_mono_ms() > until) {
            show_log(s, "server.log");
            fail_msg("the database server does not start");
        }
        poll(NULL, 0, 10);
    }
    while (!ts_mysql_is_member(s)) {
        if (kl_mono_ms() > until) {
            show_log(s, "server.log");
            fail_msg("the node does not get into its cluster");
        }
        poll(NULL, 0, 50);
    }
}

void ts_up(struct ts_server *s)
{
    up(node_that_fails(s));
}

static void wait_gone(struct ts_server *s)
{
    int status;
    waitpid(s->pid, &status, 0);
    s->pid = 0;
    atomic_store(&janitor->server[s->at].pid, -1);
}

static void kill_one(struct ts_server *s)
{
    if (!s->pid)
        return;
    signal_tree(s->pid, SIGKILL);
    wait_gone(s);
}

void ts_kill(struct ts_server *s)
{
    kill_one(node_that_fails(s));
}

void ts_down(struct ts_server *s)
{
    s = node_that_fails(s);
    if (!s->pid)
        return;
    kill(s->pid, s->kind == TS_POSTGRES ? SIGINT : SIGTERM); // PostgreSQL: fast
    wait_gone(s);
}

void ts_pause(struct ts_server *s)
{
    pid_t pids[512];
    long long field[16];
    s = node_that_fails(s);
    signal_tree(s->pid, SIGSTOP);
    int n = find_tree(s->pid, pids, 512);
    for (int i = 0; i < n; i++) { // it takes effect later
        while (read_stat(pids[i], field) && field[0] != 'T' && field[0] != 'Z')
            sched_yield();
    }
}

void ts_resume(struct ts_server *s)
{
    signal_tree(node_that_fails(s)->pid, SIGCONT);
}

// A directory and a place in the janitor's table.
static void make_place(struct ts_server *s)
{
    const char *base = getenv("STORE_DIR");
    while (s->at < SERVERS_MAX && atomic_load(&janitor->server[s->at].pid))
        s->at++;
    assert_true(s->at < SERVERS_MAX);
    snprintf(s->dir, sizeof(s->dir), "%.64s/kl-%s-XXXXXX", base ? base : "/tmp",
             s->kind == TS_POSTGRES ? "postgres" : "mariadb");
    assert_non_null(mkdtemp(s->dir));
    snprintf(janitor->server[s->at].dir, sizeof(s->dir), "%s", s->dir);
    atomic_store(&janitor->server[s->at].pid, -1);
    give_to_user(s, s->dir);
    chmod(s->dir, 0755);
    s->port = ts_free_port();
    if (s->provider) {
        s->group_port = ts_free_port();
        s->transfer_port = ts_free_port();
        s->state_port = ts_free_port();
    }
}

// It gets everything from the first.
static void start_second(struct ts_server *s)
{
    struct ts_server *t = calloc(1, sizeof(*t));
    char data[128];
    assert_non_null(t);
    *t = *s;
    t->second = NULL;
    t->first = s;
    t->at = 0;
    t->pid = 0;
    make_place(t);
    snprintf(data, sizeof(data), "%s/data", t->dir);
    assert_int_equal(mkdir(data, 0755), 0);
    give_to_user(t, data);
    s->second = t;
    up(t);
}

struct ts_server *ts_start(enum ts_kind kind, const struct ts_options *o)
{
    struct ts_server *s = calloc(1, sizeof(*s));
    const char *provider = getenv("STORE_GALERA");
    assert_non_null(s);
    start_janitor();
    s->kind = kind;
    if (kind == TS_MARIADB && provider && *provider)
        s->provider = provider;
    if (o) {
        s->tls = o->tls;
        s->durable = o->durable;
        s->args = o->args;
    }
    make_place(s);
    if (kind == TS_POSTGRES)
        ts_postgres_find(s);
    else
        ts_mysql_find(s);
    if (s->tls)
        make_certs(s);
    if (kind == TS_POSTGRES)
        ts_postgres_make(s);
    else
        ts_mysql_make(s);
    up(s);
    add_user(s);
    if (s->provider && !s->tls)
        start_second(s);
    return s;
}

static void stop_one(struct ts_server *s)
{
    kill_one(s);
    remove_dir(s->dir);
    atomic_store(&janitor->server[s->at].pid, 0);
    free(s);
}

void ts_stop(struct ts_server *s)
{
    if (!s)
        return;
    if (s->second)
        stop_one(s->second);
    stop_one(s);
}

struct ts_server *ts_shared(enum ts_kind kind)
{
    if (!shared[kind])
        shared[kind] = ts_start(kind, NULL);
    return shared[kind];
}

// ---- about one ----

int ts_port(const struct ts_server *s)
{
    return s->port;
}

const char *ts_dir(const struct ts_server *s)
{
    return s->dir;
}

pid_t ts_pid(const struct ts_server *s)
{
    return s->pid;
}

bool ts_is_mysql(const struct ts_server *s)
{
    return s->mysql;
}

const char *ts_url(const struct ts_server *s, const char *db, const char *query, char *ret,
                   size_t cap)
{
    if (s->kind == TS_POSTGRES)
        snprintf(ret, cap, "postgres://kine:s3cr3t%%2Fw%%40rd@127.0.0.1:%d/%s%s%s", s->port, db,
                 query ? "?" : "?sslmode=disable", query ? query : "");
    else
        snprintf(ret, cap, "mysql://kine:" TS_PASSWORD "@tcp(127.0.0.1:%d)/%s%s%s", s->port, db,
                 query ? "?" : "", query ? query : "");
    return ret;
}

const char *ts_url_node(const struct ts_server *s, int node, const char *db, char *ret, size_t cap)
{
    return ts_url(node % 2 && s->second ? s->second : s, db, NULL, ret, cap);
}

const char *ts_url_socket(const struct ts_server *s, const char *db, char *ret, size_t cap)
{
    if (s->kind == TS_POSTGRES)
        snprintf(ret, cap, "postgres://postgres@/%s?host=%s&port=%d", db, s->dir, s->port);
    else
        snprintf(ret, cap, "mysql://root@unix(%s/mysqld.sock)/%s", s->dir, db);
    return ret;
}

const char *ts_fresh(struct ts_server *s, char ret[32])
{
    snprintf(ret, 32, "t%d_%d", (int)(getpid() % 100000), ++s->nfresh);
    return ret;
}

void ts_sql(struct ts_server *s, const char *db, const char *sql, char *ret, size_t cap)
{
    char bin[320], port[16], sock[160], buf[4096];
    int in[2], out[2], status;
    snprintf(bin, sizeof(bin), "%s/psql", s->bin);
    snprintf(port, sizeof(port), "%d", s->port);
    snprintf(sock, sizeof(sock), "--socket=%s/mysqld.sock", s->dir);
    const char *const pg[] = {bin,
                              "-X",
                              "-q",
                              "-A",
                              "-t",
                              "-F",
                              "\t",
                              "-v",
                              "ON_ERROR_STOP=1",
                              "-h",
                              s->dir,
                              "-p",
                              port,
                              "-U",
                              "postgres",
                              "-d",
                              db ? db : "postgres",
                              NULL};
    const char *const my[] = {"mariadb",
                              "--no-defaults",
                              "--batch",
                              "--skip-column-names",
                              "--delimiter=$$", // compound statements too
                              sock,
                              "--user=root",
                              s->provider ? "--init-command=SET SESSION wsrep_sync_wait=7"
                                          : "--init-command=DO 0",
                              db,
                              NULL};
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = ts_spawn(s, "client.log", in[0], out[1], s->kind == TS_POSTGRES ? pg : my);
    close(in[0]);
    close(out[1]);
    bool written = write(in[1], sql, strlen(sql)) == (ssize_t)strlen(sql);
    close(in[1]);
    size_t have = 0;
    for (ssize_t n; (n = read(out[0], buf, sizeof(buf))) > 0;) {
        size_t k = cap > have + 1 ? cap - have - 1 : 0;
        k = (size_t)n < k ? (size_t)n : k;
        if (ret)
            memcpy(ret + have, buf, k);
        have += k;
    }
    close(out[0]);
    if (ret && cap)
        ret[have] = 0;
    waitpid(pid, &status, 0);
    if (!written || !WIFEXITED(status) || WEXITSTATUS(status)) {
        show_log(s, "client.log");
        fail_msg("%.200s: status %d", sql, status);
    }
}

int64_t ts_cpu_us(const struct ts_server *s)
{
    pid_t pids[512];
    int n = find_tree(s->pid, pids, 512);
    long long field[16], ticks = 0;
    for (int i = 0; i < n; i++) {
        if (!read_stat(pids[i], field))
            continue;
        ticks += field[11] + field[12];
        if (pids[i] == s->pid)
            ticks += field[13] + field[14]; // of those who are gone
    }
    return ticks * 1000000 / sysconf(_SC_CLK_TCK);
}
