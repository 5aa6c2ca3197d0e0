// SPDX-License-Identifier: Apache-2.0
// The objects that every cluster has: written at first start, checked at each.
#pragma once

struct kl_apiserver;

// On loops[0]; done comes there once everything is stored. Writes nothing that is there already.
void kl_bootstrap_start(struct kl_apiserver *s, void (*done)(void *arg), void *arg);

// On loops[0]: the built-in FlowSchemas and levels are put back, unless they are the user's.
void kl_bootstrap_flow_control(struct kl_apiserver *s);

// On loops[0]: the endpoints of the kubernetes Service are made those of s->endpoints.
void kl_bootstrap_endpoints(struct kl_apiserver *s);
