module kinglet/pair-vectors

go 1.26.0
