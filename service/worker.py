"""`python -m service.worker`: the Celery worker process, with the schedule in a thread of it."""

from service.parent import die_with_parent
from service.tasks import app


def main() -> None:
    die_with_parent()
    app.worker_main(["worker", "--pool=solo", "--loglevel=WARNING", "--without-mingle", "--without-gossip", "--without-heartbeat"])


if __name__ == "__main__":
    main()
