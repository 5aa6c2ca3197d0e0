// SPDX-License-Identifier: Apache-2.0
// Probes and lifecycle hooks of containers.
#include "object/validate/pod_int.h"

static void check_http(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const schemes[] = {"HTTP", "HTTPS", NULL};
    struct kl_str scheme = kl_text(kl_get(v, KL_F_scheme));
    if (!kl_text(kl_get(v, KL_F_path)).n)
        kl_v_required(c, F(p, path), "");
    kl_v_port_or_name(c, F(p, port), kl_get(v, KL_F_port));
    if (!kl_v_in(scheme, schemes))
        kl_v_unsupported(c, F(p, scheme), scheme, schemes);
    for (KL_EACH(h, kl_get(v, KL_F_httpHeaders)))
        kl_v_format(c, F(p, httpHeaders), kl_text(kl_get(h, KL_F_name)), KL_V_HEADER_NAME);
}

static void check_action(struct kl_v *c, kl_sym f, const struct kl_value *v,
                         const struct kl_vpath *p)
{
    const struct kl_value *grace = c->pod->grace;
    int64_t seconds;
    switch (f) {
    case KL_F_exec:
        if (!kl_len(kl_get(v, KL_F_command)))
            kl_v_required(c, F(p, command), "");
        break;
    case KL_F_httpGet:
        check_http(c, v, p);
        break;
    case KL_F_sleep:
        seconds = kl_int_at(v, 0, KL_F_seconds);
        if (grace && (seconds < 0 || seconds > kl_int_or(grace, 0)))
            kl_v_invalid_int(c, p, seconds,
                             kl_v_text(c,
                                       "must be non-negative and less than "
                                       "terminationGracePeriodSeconds (%lld)",
                                       (long long)kl_int_or(grace, 0)));
        break;
    default: // tcpSocket, grpc
        kl_v_port_or_name(c, F(p, port), kl_get(v, KL_F_port));
    }
}

static void check_handler(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p,
                          bool probe)
{
    static const kl_sym kinds[] = {KL_F_exec, KL_F_httpGet, KL_F_tcpSocket, KL_F_grpc, KL_F_sleep};
    size_t n = 0;
    for (size_t i = 0; i < KL_COUNT(kinds); i++) {
        const struct kl_value *m = kl_get(v, kinds[i]);
        if (!m || kinds[i] == (probe ? KL_F_sleep : KL_F_grpc))
            continue;
        if (n++)
            kl_v_forbidden(c, FS(p, kinds[i]), "may not specify more than 1 handler type");
        else
            check_action(c, kinds[i], m, FS(p, kinds[i]));
    }
    if (!n)
        kl_v_required(c, p, "must specify a handler type");
}

static void check_probe(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct kl_rule numbers[] = {
        R_NONNEG(initialDelaySeconds), R_NONNEG(timeoutSeconds),   R_NONNEG(periodSeconds),
        R_NONNEG(successThreshold),    R_NONNEG(failureThreshold), R_END};
    const struct kl_value *grace = kl_get(v, KL_F_terminationGracePeriodSeconds);
    check_handler(c, v, p, true);
    kl_v_walk(c, numbers, v, p);
    if (grace && kl_int_or(grace, 0) <= 0)
        kl_v_invalid_int(c, F(p, terminationGracePeriodSeconds), kl_int_or(grace, 0),
                         "must be greater than 0");
}

static void check_once(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    if (!v)
        return;
    check_probe(c, v, p);
    if (kl_int_at(v, 0, KL_F_successThreshold) != 1)
        kl_v_invalid_int(c, F(p, successThreshold), kl_int_at(v, 0, KL_F_successThreshold),
                         "must be 1");
}

static void check_stop_signal(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    // sets.List: bytewise
    static const char *const linux_signals[] = {
        "SIGABRT",     "SIGALRM",     "SIGBUS",      "SIGCHLD",     "SIGCLD",      "SIGCONT",
        "SIGFPE",      "SIGHUP",      "SIGILL",      "SIGINT",      "SIGIO",       "SIGIOT",
        "SIGKILL",     "SIGPIPE",     "SIGPOLL",     "SIGPROF",     "SIGPWR",      "SIGQUIT",
        "SIGRTMAX",    "SIGRTMAX-1",  "SIGRTMAX-10", "SIGRTMAX-11", "SIGRTMAX-12", "SIGRTMAX-13",
        "SIGRTMAX-14", "SIGRTMAX-2",  "SIGRTMAX-3",  "SIGRTMAX-4",  "SIGRTMAX-5",  "SIGRTMAX-6",
        "SIGRTMAX-7",  "SIGRTMAX-8",  "SIGRTMAX-9",  "SIGRTMIN",    "SIGRTMIN+1",  "SIGRTMIN+10",
        "SIGRTMIN+11", "SIGRTMIN+12", "SIGRTMIN+13", "SIGRTMIN+14", "SIGRTMIN+15", "SIGRTMIN+2",
        "SIGRTMIN+3",  "SIGRTMIN+4",  "SIGRTMIN+5",  "SIGRTMIN+6",  "SIGRTMIN+7",  "SIGRTMIN+8",
        "SIGRTMIN+9",  "SIGSEGV",     "SIGSTKFLT",   "SIGSTOP",     "SIGSYS",      "SIGTERM",
        "SIGTRAP",     "SIGTSTP",     "SIGTTIN",     "SIGTTOU",     "SIGURG",      "SIGUSR1",
        "SIGUSR2",     "SIGVTALRM",   "SIGWINCH",    "SIGXCPU",     "SIGXFSZ",     NULL};
    static const char *const windows_signals[] = {"SIGKILL", "SIGTERM", NULL};
    const struct kl_pod_ctx *x = c->pod;
    const char *const *set = kl_str_eqz(x->os, "windows") ? windows_signals
                             : kl_str_eqz(x->os, "linux") ? linux_signals
                                                          : NULL;
    if (!x->has_os)
        kl_v_forbidden(c, p, "may not be set for containers with empty `spec.os.name`");
    else if (set && !kl_v_in(kl_text(v), set))
        kl_v_unsupported(c, p, kl_text(v), set);
}

void kl_v_lifecycle(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p)
{
    const struct kl_value *l = kl_get(ctr, KL_F_lifecycle), *v;
    const struct kl_vpath *at = F(p, lifecycle);
    if ((v = kl_get(l, KL_F_postStart)))
        check_handler(c, v, F(at, postStart), false);
    if ((v = kl_get(l, KL_F_preStop)))
        check_handler(c, v, F(at, preStop), false);
    if ((v = kl_get(l, KL_F_stopSignal)))
        check_stop_signal(c, v, F(at, stopSignal));
    check_once(c, kl_get(ctr, KL_F_livenessProbe), F(p, livenessProbe));
    if ((v = kl_get(ctr, KL_F_readinessProbe))) {
        const struct kl_value *grace = kl_get(v, KL_F_terminationGracePeriodSeconds);
        check_probe(c, v, F(p, readinessProbe));
        if (grace)
            kl_v_invalid_int(c, F(F(p, readinessProbe), terminationGracePeriodSeconds),
                             kl_int_or(grace, 0), "must not be set for readinessProbes");
    }
    check_once(c, kl_get(ctr, KL_F_startupProbe), F(p, startupProbe));
}
