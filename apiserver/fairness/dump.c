// SPDX-License-Identifier: Apache-2.0
// What can be seen of it: metrics under upstream's names, and the three dumps for people.
#include "apiserver/fairness/fairness_int.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PREFIX "apiserver_flowcontrol_"

static void head(struct kl_buf *b, const char *name, const char *kind, const char *help)
{
    kl_buf_printf(b, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, kind);
}

static const char *const reasons[KL_FAIR_REASONS] = {"queue-full", "concurrency-limit", "time-out"};

// ---- of schemas

enum schema_stat { DISPATCHED, INQUEUE, INQUEUE_SEATS, EXECUTING, EXECUTING_SEATS, STATS };

static const struct {
    const char *name, *kind, *help;
} stats[STATS] = {
    {"dispatched_requests_total", "counter",
     "Number of requests executed by API Priority and Fairness subsystem"},
    {"current_inqueue_requests", "gauge",
     "Number of requests currently pending in queues of the API Priority and Fairness subsystem"},
    {"current_inqueue_seats", "gauge",
     "Number of seats currently pending in queues of the API Priority and Fairness subsystem"},
    {"current_executing_requests", "gauge",
     "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the "
     "API Priority and Fairness subsystem"},
    {"current_executing_seats", "gauge",
     "Concurrency (number of seats) occupied by the currently executing (initial stage for a "
     "WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem"},
};

static int64_t stat_of(const struct kl_fair_stats *st, enum schema_stat i)
{
    const int64_t v[STATS] = {st->dispatched, st->waiting, st->waiting_seats, st->executing,
                              st->seats};
    return v[i];
}

static void put_labels(struct kl_buf *b, const struct kl_fair_stats *st)
{
    kl_buf_printf(b, "flow_schema=\"%s\",priority_level=\"%s\"", st->schema, st->level);
}

static void put_histogram(struct kl_buf *b, const char *name, const struct kl_fair_stats *st,
                          const struct kl_fair_histogram *h, const double *bounds, int nbounds,
                          const char *more)
{
    int64_t n = 0;
    for (int i = 0; i <= KL_FAIR_BUCKETS; i++) {
        n += h->n[i];
        if (i >= nbounds && i < KL_FAIR_BUCKETS)
            continue;
        kl_buf_printf(b, PREFIX "%s_bucket{", name);
        put_labels(b, st);
        if (i < nbounds)
            kl_buf_printf(b, "%s,le=\"%g\"} %lld\n", more, bounds[i], (long long)n);
        else
            kl_buf_printf(b, "%s,le=\"+Inf\"} %lld\n", more, (long long)n);
    }
    kl_buf_printf(b, PREFIX "%s_sum{", name);
    put_labels(b, st);
    kl_buf_printf(b, "%s} %g\n" PREFIX "%s_count{", more, h->sum, name);
    put_labels(b, st);
    kl_buf_printf(b, "%s} %lld\n", more, (long long)n);
}

// As they are now: each belongs to its level's mutex.
static struct kl_fair_stats *copy_stats(struct kl_fair *f, size_t *ret_n)
{
    struct kl_fair_stats *out = calloc((size_t)f->nstats + 1, sizeof(*out));
    *ret_n = 0;
    for (struct kl_fair_stats *st = f->stats; out && st; st = st->next) {
        struct kl_fair_level *l = f->levels;
        while (l && strcmp(l->name, st->level))
            l = l->next;
        if (l)
            pthread_mutex_lock(&l->mu);
        out[(*ret_n)++] = *st;
        if (l)
            pthread_mutex_unlock(&l->mu);
    }
    return out;
}

static void put_schemas(struct kl_buf *b, const struct kl_fair_stats *all, size_t n)
{
    const struct kl_fair_stats *const end = all + n;
    static const double waits[] = {0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60};
    static const double seats[] = {1, 2, 4, 10};
    for (int i = 0; i < STATS; i++) {
        head(b, stats[i].name, stats[i].kind, stats[i].help);
        for (const struct kl_fair_stats *st = all; st < end; st++) {
            kl_buf_printf(b, PREFIX "%s{", stats[i].name);
            put_labels(b, st);
            kl_buf_printf(b, "} %lld\n", (long long)stat_of(st, (enum schema_stat)i));
        }
    }
    head(b, "rejected_requests_total", "counter",
         "Number of requests rejected by API Priority and Fairness subsystem");
    for (const struct kl_fair_stats *st = all; st < end; st++)
        for (int i = 0; i < KL_FAIR_REASONS; i++) {
            if (!st->rejected[i])
                continue;
            kl_buf_puts(b, KL_STR(PREFIX "rejected_requests_total{"));
            put_labels(b, st);
            kl_buf_printf(b, ",reason=\"%s\"} %lld\n", reasons[i], (long long)st->rejected[i]);
        }
    head(b, "request_wait_duration_seconds", "histogram",
         "Length of time a request spent waiting in its queue");
    for (const struct kl_fair_stats *st = all; st < end; st++)
        for (int i = 0; i < 2; i++)
            put_histogram(b, "request_wait_duration_seconds", st, &st->waited[i], waits,
                          KL_FAIR_BUCKETS, i ? ",execute=\"true\"" : ",execute=\"false\"");
    head(b, "request_execution_seconds", "histogram",
         "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request "
         "execution in the API Priority and Fairness subsystem");
    for (const struct kl_fair_stats *st = all; st < end; st++)
        for (int i = 0; i < 2; i++)
            put_histogram(b, "request_execution_seconds", st, &st->executed[i], waits,
                          KL_FAIR_BUCKETS, i ? ",type=\"mutating\"" : ",type=\"regular\"");
    head(b, "work_estimated_seats", "histogram",
         "Number of estimated seats (maximum of initial and final seats) associated with requests "
         "in API Priority and Fairness");
    for (const struct kl_fair_stats *st = all; st < end; st++)
        put_histogram(b, "work_estimated_seats", st, &st->estimated, seats, KL_COUNT(seats), "");
}

// ---- of levels

enum level_stat {
    NOMINAL,
    LOWER,
    UPPER,
    CURRENT,
    WATERMARK,
    AVERAGE,
    DEVIATION,
    SMOOTHED,
    TARGET,
    CURRENT_R,
    LEVEL_STATS
};

static const struct {
    const char *name, *help;
} level_stats[LEVEL_STATS] = {
    {"nominal_limit_seats", "Nominal number of execution seats configured for each priority level"},
    {"lower_limit_seats",
     "Configured lower bound on number of execution seats available to each priority level"},
    {"upper_limit_seats",
     "Configured upper bound on number of execution seats available to each priority level"},
    {"current_limit_seats",
     "current derived number of execution seats available to each priority level"},
    {"demand_seats_high_watermark", "High watermark, over last adjustment period, of demand_seats"},
    {"demand_seats_average", "Time-weighted average, over last adjustment period, of demand_seats"},
    {"demand_seats_stdev",
     "Time-weighted standard deviation, over last adjustment period, of demand_seats"},
    {"demand_seats_smoothed", "Smoothed seat demands"},
    {"target_seats", "Seat allocation targets"},
    {"current_r", "R(time of last change)"},
};

static void put_levels(struct kl_fair *f, struct kl_buf *b)
{
    for (int i = 0; i < LEVEL_STATS; i++) {
        head(b, level_stats[i].name, "gauge", level_stats[i].help);
        for (struct kl_fair_level *l = f->levels; l; l = l->next) {
            pthread_mutex_lock(&l->mu);
            const struct kl_level_share *s = &l->share;
            const double v[LEVEL_STATS] = {
                s->nominal, s->min,       s->max,      s->current, s->high_watermark,
                s->average, s->deviation, s->smoothed, s->target,  (double)l->q.r / 1e8};
            pthread_mutex_unlock(&l->mu);
            kl_buf_printf(b, PREFIX "%s{priority_level=\"%s\"} %g\n", level_stats[i].name, l->name,
                          v[i]);
        }
    }
    head(b, "seat_fair_frac", "gauge",
         "Fair fraction of server's concurrency to allocate to each priority level that can use "
         "it");
    kl_buf_printf(b, PREFIX "seat_fair_frac %g\n", f->fair_fraction);
}

void kl_fair_metrics(struct kl_fair *f, struct kl_buf *b)
{
    if (!f || f->o.off)
        return;
    size_t n;
    pthread_mutex_lock(&f->mu);
    put_levels(f, b);
    struct kl_fair_stats *all = copy_stats(f, &n);
    pthread_mutex_unlock(&f->mu);
    if (all)
        put_schemas(b, all, n);
    free(all);
}

// ---- dumps: columns in upstream's order, aligned as Go's tabwriter does

enum { CELLS = 18, QUEUES_MAX = 65536 };

struct table {
    struct kl_arena *a;
    struct kl_str (*rows)[CELLS];
    size_t n, cap;
    int cells;
};

static void add_row(struct table *t, const struct kl_str *cells)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        void *p = realloc(t->rows, cap * sizeof t->rows[0]);
        if (!p)
            return;
        t->rows = p;
        t->cap = cap;
    }
    memcpy(t->rows[t->n++], cells, (size_t)t->cells * sizeof cells[0]);
}

static void write_table(struct kl_buf *b, const struct table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        for (int k = 0; k < t->cells; k++) {
            size_t width = 8;
            kl_buf_puts(b, t->rows[i][k]);
            if (k == t->cells - 1)
                break;
            kl_buf_putc(b, ',');
            for (size_t j = 0; j < t->n; j++)
                if (t->rows[j][k].n + 2 > width)
                    width = t->rows[j][k].n + 2;
            for (size_t n = t->rows[i][k].n + 1; n < width; n++)
                kl_buf_putc(b, ' ');
        }
        kl_buf_putc(b, '\n');
    }
}

static struct kl_str number(struct table *t, int64_t n)
{
    return kl_arena_printf(t->a, "%lld", (long long)n);
}

static struct kl_str seat_seconds(struct table *t, kl_seat_seconds s)
{
    return kl_arena_printf(t->a, "%lld.%08lldss", (long long)(s / 100000000),
                           (long long)(s % 100000000));
}

static void header(struct table *t, const char *const *names, int n)
{
    struct kl_str cells[CELLS];
    for (int i = 0; i < n; i++)
        cells[i] = kl_str(names[i]);
    t->cells = n;
    add_row(t, cells);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct kl_fair_level *const *)a)->name,
                  (*(struct kl_fair_level *const *)b)->name);
}

static struct kl_str yes(bool b)
{
    return b ? KL_STR("true") : KL_STR("false");
}

static void dump_level(struct table *t, struct kl_fair_level *l)
{
    size_t active = 0;
    struct kl_fq_queue_info *q = calloc(QUEUES_MAX, sizeof *q);
    size_t n = q ? kl_fqs_queues(&l->q, q, QUEUES_MAX) : 0;
    for (size_t i = 0; i < n; i++)
        active += q[i].waiting > 0;
    free(q);
    add_row(t, (struct kl_str[]){kl_arena_dup(t->a, kl_str(l->name)), number(t, (int64_t)active),
                                 yes(!l->q.waiting && !l->q.executing), yes(!l->desired),
                                 number(t, l->q.waiting), number(t, l->q.executing),
                                 number(t, (int64_t)l->q.dispatched),
                                 number(t, (int64_t)l->q.rejected), number(t, 0),
                                 number(t, (int64_t)l->q.timed_out)});
}

static void dump_queues(struct table *t, struct kl_fair_level *l)
{
    struct kl_fq_queue_info *q = calloc(QUEUES_MAX, sizeof *q);
    size_t n = q ? kl_fqs_queues(&l->q, q, QUEUES_MAX) : 0, at = 0;
    for (int i = 0; i < l->q.conf.queues && i < QUEUES_MAX; i++) {
        struct kl_fq_queue_info none = {0}, *x = at < n && q[at].index == i ? &q[at++] : &none;
        add_row(t, (struct kl_str[]){kl_arena_dup(t->a, kl_str(l->name)), number(t, i),
                                     number(t, x->waiting), number(t, x->executing),
                                     number(t, x->seats_in_use), seat_seconds(t, x->next_r),
                                     number(t, x->waiting_initial_seats),
                                     number(t, x->waiting_seats), seat_seconds(t, x->work)});
    }
    free(q);
}

static struct kl_str stamp(struct table *t, int64_t mono_ns)
{
    char text[40];
    if (!mono_ns)
        return KL_STR("0001-01-01T00:00:00Z");
    int64_t wall = kl_wall_ns() - (kl_mono_ns() - mono_ns);
    time_t s = (time_t)(wall / 1000000000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    return kl_arena_printf(t->a, "%s.%09lldZ", text, (long long)(wall % 1000000000));
}

static void dump_ticket(struct table *t, const struct kl_fair_level *l,
                        const struct kl_fair_ticket *k, int place, int queue)
{
    const struct kl_req_info *i = &k->asked;
    struct kl_str by = k->flow->by == KL_FLOW_BY_USER        ? k->user->name
                       : k->flow->by == KL_FLOW_BY_NAMESPACE ? i->ns
                                                             : KL_STR("");
    struct kl_str version =
        i->group.n ? kl_arena_printf(t->a, "%.*s/%.*s", KL_PRI(i->group), KL_PRI(i->version))
                   : i->version;
    // The request is another loop's, and may be gone when the table is written.
    struct kl_arena *a = t->a;
    add_row(t,
            (struct kl_str[]){
                kl_arena_dup(a, kl_str(l->name)), kl_arena_dup(a, k->flow->name), number(t, queue),
                number(t, place), kl_arena_dup(a, by), stamp(t, k->item.arrived_ns),
                number(t, k->item.initial_seats), number(t, k->item.final_seats),
                kl_arena_printf(t->a, "%lldms", (long long)(k->item.latency_ns / 1000000)),
                stamp(t, k->item.started_ns), kl_arena_dup(a, k->user->name),
                kl_arena_dup(a, i->verb), kl_arena_dup(a, i->path), kl_arena_dup(a, i->ns),
                kl_arena_dup(a, i->name), kl_arena_dup(a, version), kl_arena_dup(a, i->plural),
                kl_arena_dup(a, i->sub)});
}

static void dump_requests(struct table *t, struct kl_fair_level *l)
{
    struct kl_fq_queue_info *q = calloc(QUEUES_MAX, sizeof *q);
    size_t n = q ? kl_fqs_queues(&l->q, q, QUEUES_MAX) : 0;
    for (size_t i = 0; i < n; i++) {
        int place = 0;
        for (struct kl_fq_item *it = q[i].first; it; it = it->next)
            dump_ticket(t, l, KL_CONTAINER_OF(it, struct kl_fair_ticket, item), place++,
                        q[i].index);
    }
    free(q);
    for (struct kl_fair_ticket *k = l->tickets; k; k = k->lnext)
        if (k->dispatched)
            dump_ticket(t, l, k, -1, -1);
}

static const char *const level_columns[] = {
    "PriorityLevelName",  "ActiveQueues",     "IsIdle",
    "IsQuiescing",        "WaitingRequests",  "ExecutingRequests",
    "DispatchedRequests", "RejectedRequests", "TimedoutRequests",
    "CancelledRequests"};
static const char *const queue_columns[] = {"PriorityLevelName", "Index",       "PendingRequests",
                                            "ExecutingRequests", "SeatsInUse",  "NextDispatchR",
                                            "InitialSeatsSum",   "MaxSeatsSum", "TotalWorkSum"};
static const char *const request_columns[CELLS] = {
    "PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher",
    "ArriveTime",        "InitialSeats",   "FinalSeats", "AdditionalLatency",   "StartTime",
    "UserName",          "Verb",           "APIPath",    "Namespace",           "Name",
    "APIVersion",        "Resource",       "SubResource"};
enum { REQUEST_COLUMNS = 10 };

bool kl_fair_dump(struct kl_api_call *c)
{
    static const char prefix[] = "/debug/api_priority_and_fairness/dump_";
    struct kl_fair *f = c->req.srv->fair;
    struct kl_str what = c->req.info.path;
    if (!f || f->o.off || !kl_str_starts(what, kl_str(prefix)))
        return false;
    what = kl_str_from(what, sizeof prefix - 1);
    bool levels = kl_str_eqz(what, "priority_levels"), queues = kl_str_eqz(what, "queues");
    if (!levels && !queues && !kl_str_eqz(what, "requests"))
        return false;
    bool details =
        kl_query_get(c->req.arena, kl_http_query(c->hr), KL_STR("includeRequestDetails")).n > 0;
    struct table t = {.a = c->req.arena};
    if (levels)
        header(&t, level_columns, KL_COUNT(level_columns));
    else if (queues)
        header(&t, queue_columns, KL_COUNT(queue_columns));
    else
        header(&t, request_columns, details ? CELLS : REQUEST_COLUMNS);
    pthread_mutex_lock(&f->mu);
    size_t n = 0;
    for (struct kl_fair_level *l = f->levels; l; l = l->next)
        n++;
    struct kl_fair_level **all = calloc(n + 1, sizeof(*all));
    n = 0;
    for (struct kl_fair_level *l = f->levels; all && l; l = l->next)
        all[n++] = l;
    qsort(all, n, sizeof *all, by_name);
    for (size_t i = 0; i < n; i++) {
        pthread_mutex_lock(&all[i]->mu);
        if (levels)
            dump_level(&t, all[i]);
        else if (queues)
            dump_queues(&t, all[i]);
        else
            dump_requests(&t, all[i]);
        pthread_mutex_unlock(&all[i]->mu);
    }
    pthread_mutex_unlock(&f->mu);
    free(all);
    struct kl_buf b;
    kl_buf_init(&b, 16 << 20);
    write_table(&b, &t);
    free(t.rows);
    kl_http_answer_text(&c->req, 200, "text/plain; charset=utf-8", kl_buf_str(&b));
    kl_buf_fini(&b);
    return true;
}
