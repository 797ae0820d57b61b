# The commands of this project. `make run` and `make test` do all their set-up themselves on Debian 12.
