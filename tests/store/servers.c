// SPDX-License-Identifier: Apache-2.0
#include "servers.h"
#include "free_port.h"
#include "base/clock.h"
#include "base/str.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <netinet/in.h>
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { SERVERS_MAX = 16, READY_S = 180, ARGS_MAX = 64, NOT_ALLOWED = 1130 };

// What the janitor knows: it outlives the test, however that ends.
struct janitor {
    pid_t test;
    struct {
        atomic_int pid;
        char dir[96];
    } server[SERVERS_MAX];
};

struct ts_server {
    enum ts_kind kind;
    enum ts_tls tls;
    bool durable;
    bool mysql; // not MariaDB
    const char *const *args;
    int at; // in the janitor's table
    int port, nfresh;
    pid_t pid;
    char dir[96], bin[256];
    // Galera: two nodes. The first is its own server in everything, and outweighs the second, which
    // is the one that is killed, paused and started again.
    const char *provider;
    struct ts_server *second, *first;
    int group_port, transfer_port, state_port;
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

// Output goes to DIR/NAME.log, input comes from `in` (>= 0).
static pid_t spawn(const struct ts_server *s, const char *log, int in, int out,
                   const char *const *argv)
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

static void run(const struct ts_server *s, const char *log, const char *const *argv)
{
    int status;
    pid_t pid = spawn(s, log, -1, -1, argv);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        show_log(s, log);
        fail_msg("%s: status %d", argv[0], status);
    }
}

// ---- finding things ----

// STORE_MYSQLD: another server than the distribution's MariaDB, maybe MySQL; it says which it is.
static void ask_mysqld(struct ts_server *s, const char *bin)
{
    const char *const argv[] = {s->bin, "--no-defaults", "--version", NULL};
    char text[512];
    int out[2], status;
    size_t have = 0;
    snprintf(s->bin, sizeof(s->bin), "%s", bin);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = spawn(s, "init.log", -1, out[1], argv);
    close(out[1]);
    for (ssize_t n; (n = read(out[0], text + have, sizeof(text) - 1 - have)) > 0;)
        have += (size_t)n;
    text[have] = 0;
    close(out[0]);
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) || !have)
        fail_msg("STORE_MYSQLD: %s --version: status %d", bin, status);
    s->mysql = !strstr(text, "MariaDB");
}

static void find_bin(struct ts_server *s)
{
    const char *mysqld = getenv("STORE_MYSQLD");
    if (s->kind == TS_MARIADB && mysqld && *mysqld) {
        ask_mysqld(s, mysqld);
        return;
    }
    if (s->kind == TS_MARIADB) {
        static const char *const places[] = {"/usr/sbin", "/usr/local/sbin", "/usr/bin",
                                             "/usr/libexec"};
        for (size_t i = 0; i < KL_COUNT(places); i++) {
            snprintf(s->bin, sizeof(s->bin), "%s/mariadbd", places[i]);
            if (access(s->bin, X_OK) == 0)
                return;
        }
        fail_msg("mariadbd is not installed (deploy/packages-test.txt: mariadb-server)");
    }
    glob_t g;
    int r = glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &g);
    if (!r)
        snprintf(s->bin, sizeof(s->bin), "%.*s",
                 (int)(strlen(g.gl_pathv[g.gl_pathc - 1]) - strlen("/postgres")),
                 g.gl_pathv[g.gl_pathc - 1]);
    globfree(&g);
    if (r)
        fail_msg("PostgreSQL is not installed (deploy/packages-test.txt: postgresql)");
}

static void write_file(const struct ts_server *s, const char *name, int mode, const char *text)
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
    write_file(s, cnf, 0644, ext);
    const char *const req[] = {
        "openssl", "req",     "-newkey", "ec",   "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes",  "-keyout", key,       "-out", csr,        "-subj",
        subject,   NULL};
    const char *const x509[] = {
        "openssl",         "x509",  "-req", "-in",      csr, "-CA",  "ca.crt", "-CAkey", "ca.key",
        "-CAcreateserial", "-days", "30",   "-extfile", cnf, "-out", crt,      NULL};
    run(s, "openssl.log", req);
    run(s, "openssl.log", x509);
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
    run(s, "openssl.log", ca);
    sign(s, "server", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    sign(s, "client", "/CN=kine", "extendedKeyUsage=clientAuth\n");
}

// ---- making a server ----

static void make_postgres(struct ts_server *s)
{
    char initdb[320], text[1024];
    snprintf(initdb, sizeof(initdb), "%s/initdb", s->bin);
    // postgres, whose password kine takes by default, and kine, who may make databases.
    write_file(s, "pw", 0600, "postgres\n");
    const char *const argv[] = {initdb,
                                "-D",
                                "data",
                                "--no-sync",
                                "-U",
                                "postgres",
                                "-E",
                                "UTF8",
                                "--locale=C",
                                "--pwfile=pw",
                                "--auth-local=trust",
                                "--auth-host=scram-sha-256",
                                NULL};
    run(s, "init.log", argv);
    const char *host = s->tls == TS_TLS_CLIENT_CERT ? "hostssl all all 127.0.0.1/32 scram-sha-256 "
                                                      "clientcert=verify-ca"
                                                    : "host all all 127.0.0.1/32 scram-sha-256";
    snprintf(text, sizeof(text), "local all all trust\n%s\n", host);
    write_file(s, "data/pg_hba.conf", 0600, text);
    snprintf(text, sizeof(text),
             "listen_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\n"
             "max_connections = 100\nshared_buffers = 32MB\ndynamic_shared_memory_type = mmap\n"
             "fsync = %s\nlog_min_messages = warning\n",
             s->dir, s->durable ? "on" : "off");
    size_t n = strlen(text);
    if (s->tls)
        snprintf(text + n, sizeof(text) - n,
                 "ssl = on\nssl_cert_file = '%s/server.crt'\nssl_key_file = '%s/server.key'\n"
                 "ssl_ca_file = '%s/ca.crt'\n",
                 s->dir, s->dir, s->dir);
    write_file(s, "data/postgresql.conf", 0600, text);
}

static void make_mariadb(struct ts_server *s)
{
    // Another one that starts would remove its temporary tables from a directory that both have.
    char data[160], tmpdir[160];
    snprintf(data, sizeof(data), "--datadir=%s/data", s->dir);
    snprintf(tmpdir, sizeof(tmpdir), "--tmpdir=%s", s->dir);
    const char *const argv[] = {"mariadb-install-db",
                                "--no-defaults",
                                data,
                                "--auth-root-authentication-method=normal",
                                "--skip-test-db",
                                "--skip-name-resolve",
                                "--innodb-log-file-size=48M",
                                "--innodb-flush-log-at-trx-commit=2",
                                tmpdir,
                                NULL};
    run(s, "init.log", argv);
}

static void make_mysql(struct ts_server *s)
{
    char data[160], tmpdir[160];
    snprintf(data, sizeof(data), "--datadir=%s/data", s->dir);
    snprintf(tmpdir, sizeof(tmpdir), "--tmpdir=%s", s->dir);
    const char *const argv[] = {s->bin,
                                "--no-defaults",
                                "--initialize-insecure",
                                "--innodb-flush-log-at-trx-commit=2",
                                data,
                                tmpdir,
                                NULL};
    run(s, "init.log", argv);
}

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

static bool is_ready_postgres(const struct ts_server *s)
{
    char path[160], buf[512];
    snprintf(path, sizeof(path), "%s/data/postmaster.pid", s->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;
    if (fd >= 0)
        close(fd);
    buf[n > 0 ? n : 0] = 0;
    return strtol(buf, NULL, 10) == s->pid && strstr(buf, "\nready");
}

// Its greeting is the first packet; MySQL refuses hosts from which nobody may come, as long as
// there is no user for them.
static bool is_ready_mariadb(const struct ts_server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)s->port)};
    unsigned char buf[7];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
              recv(fd, buf, sizeof(buf), MSG_WAITALL) == sizeof(buf) &&
              (buf[4] == 10 || (buf[4] == 0xff && (buf[5] | buf[6] << 8) == NOT_ALLOWED));
    close(fd);
    return ok;
}

static void spawn_postgres(struct ts_server *s)
{
    char bin[320], port[16];
    const char *argv[ARGS_MAX] = {bin, "-D", "data", "-p", port};
    size_t n = 5;
    snprintf(bin, sizeof(bin), "%s/postgres", s->bin);
    snprintf(port, sizeof(port), "%d", s->port);
    for (const char *const *a = s->args; a && *a && n + 1 < ARGS_MAX; a++)
        argv[n++] = *a;
    s->pid = spawn(s, "server.log", -1, -1, argv);
}

// ---- Galera ----

struct galera_args {
    char provider[160], name[160], address[64], options[400], receive[64];
};

static size_t add_galera(const struct ts_server *s, struct galera_args *a, const char **argv,
                         size_t n)
{
    if (!s->provider)
        return n;
    snprintf(a->provider, sizeof(a->provider), "--wsrep-provider=%s", s->provider);
    snprintf(a->name, sizeof(a->name), "--wsrep-cluster-name=%s",
             s->first ? s->first->dir : s->dir);
    if (s->first)
        snprintf(a->address, sizeof(a->address), "--wsrep-cluster-address=gcomm://127.0.0.1:%d",
                 s->first->group_port);
    else
        snprintf(a->address, sizeof(a->address), "--wsrep-cluster-address=gcomm://");
    snprintf(a->options, sizeof(a->options),
             "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:%d;ist.recv_addr="
             "127.0.0.1:%d;gcache.size=32M;pc.weight=%d;pc.recovery=FALSE;"
             "evs.suspect_timeout=PT3S;evs.inactive_timeout=PT6S",
             s->group_port, s->transfer_port, s->first ? 1 : 2);
    snprintf(a->receive, sizeof(a->receive), "--wsrep-sst-receive-address=127.0.0.1:%d",
             s->state_port);
    const char *const all[] = {"--wsrep-on=ON",
                               "--binlog-format=ROW",
                               "--innodb-autoinc-lock-mode=2",
                               "--wsrep-auto-increment-control=OFF", // kine counts by ones
                               "--wsrep-node-address=127.0.0.1",
                               "--wsrep-sst-method=rsync",
                               a->provider,
                               a->name,
                               a->address,
                               a->options,
                               a->receive};
    for (size_t i = 0; i < KL_COUNT(all) && n + 1 < ARGS_MAX; i++)
        argv[n++] = all[i];
    return n;
}

// It answers before it takes part.
static bool is_member(struct ts_server *s)
{
    char out[64];
    if (!s->provider)
        return true;
    ts_sql(s, NULL, "SHOW STATUS LIKE 'wsrep_ready'", out, sizeof(out));
    return strstr(out, "ON");
}

static struct ts_server *node_that_fails(struct ts_server *s)
{
    return s->second ? s->second : s;
}

// What only one of the two knows.
static const char *const mariadb_args[] = {"--innodb-log-file-size=48M", NULL};
static const char *const mysql_args[] = {"--innodb-redo-log-capacity=96M", "--loose-mysqlx=OFF",
                                         "--secure-file-priv=NULL", NULL};

static size_t add_args(const char **argv, size_t n, const char *const *more)
{
    while (more && *more && n + 1 < ARGS_MAX)
        argv[n++] = *more++;
    return n;
}

static void spawn_mariadb(struct ts_server *s)
{
    char data[160], tmp[160], sock[160], port[32], ca[160], cert[160], key[160];
    struct galera_args galera;
    const char *argv[ARGS_MAX] = {s->bin,
                                  "--no-defaults",
                                  data,
                                  tmp,
                                  sock,
                                  port,
                                  "--bind-address=127.0.0.1",
                                  "--skip-name-resolve",
                                  "--innodb-buffer-pool-size=64M",
                                  "--performance-schema=off",
                                  "--max-connections=100"};
    size_t n = add_args(argv, 11, s->mysql ? mysql_args : mariadb_args);
    snprintf(data, sizeof(data), "--datadir=%s/data", s->dir);
    snprintf(tmp, sizeof(tmp), "--tmpdir=%s", s->dir);
    snprintf(sock, sizeof(sock), "--socket=%s/mysqld.sock", s->dir);
    snprintf(port, sizeof(port), "--port=%d", s->port);
    snprintf(ca, sizeof(ca), "--ssl-ca=%s/ca.crt", s->dir);
    snprintf(cert, sizeof(cert), "--ssl-cert=%s/server.crt", s->dir);
    snprintf(key, sizeof(key), "--ssl-key=%s/server.key", s->dir);
    if (s->tls) {
        argv[n++] = ca;
        argv[n++] = cert;
        argv[n++] = key;
    } else if (s->mysql) {
        argv[n++] = "--tls-version="; // it makes itself a certificate otherwise
    }
    if (!s->durable) {
        argv[n++] = "--innodb-flush-log-at-trx-commit=2";
        argv[n++] = "--sync-binlog=0";
    }
    n = add_galera(s, &galera, argv, n);
    add_args(argv, n, s->args);
    s->pid = spawn(s, "server.log", -1, -1, argv);
}

static void up(struct ts_server *s)
{
    int64_t until = kl_mono_ms() + READY_S * 1000;
    int status;
    if (s->kind == TS_POSTGRES)
        spawn_postgres(s);
    else
        spawn_mariadb(s);
    atomic_store(&janitor->server[s->at].pid, s->pid);
    while (!(s->kind == TS_POSTGRES ? is_ready_postgres(s) : is_ready_mariadb(s))) {
        bool gone = waitpid(s->pid, &status, WNOHANG) == s->pid;
        if (gone && s->kind == TS_POSTGRES && kl_mono_ms() <= until) {
            poll(NULL, 0, 50); // children of one that was killed may still have its memory
            spawn_postgres(s);
            atomic_store(&janitor->server[s->at].pid, s->pid);
            continue;
        }
        if (gone || kl_mono_ms() > until) {
            show_log(s, "server.log");
            fail_msg("the database server does not start");
        }
        poll(NULL, 0, 10);
    }
    while (!is_member(s)) {
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
    find_bin(s);
    if (s->tls)
        make_certs(s);
    if (kind == TS_POSTGRES)
        make_postgres(s);
    else if (s->mysql)
        make_mysql(s);
    else
        make_mariadb(s);
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
    pid_t pid = spawn(s, "client.log", in[0], out[1], s->kind == TS_POSTGRES ? pg : my);
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
