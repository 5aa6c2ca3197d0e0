// SPDX-License-Identifier: Apache-2.0
// What this API server calls itself where several of a cluster are told apart: upstream's
// APIServerID, a hash of the machine's name.
#pragma once

#define KL_SELF_ID_SIZE 40
void kl_self_id(char ret[KL_SELF_ID_SIZE]); // "apiserver-" and 26 letters and digits
