# SPDX-License-Identifier: Apache-2.0
"""Requests whose answers are others than kube-apiserver's, and why. All of them are refused or do no
harm; what is here and could be answered as there is work that waits."""

DIFFERENT = {
    "lower case method": "the parser of HTTP/1.1 knows methods by name and answers 400",
    "quota negative": "findings come in the order of a Go map there, which is none",
}
