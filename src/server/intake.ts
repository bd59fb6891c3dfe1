/**
 * How many of its clients' commands a node of a cluster has under way at a time.
 *
 * What clients send faster than the cluster can run it has to wait somewhere. Between the nodes would be the worst place:
 * every command there would wait behind all others, past the deadlines of forwards, and what is sent again for that would
 * make even more work, until nothing but that is done. So it waits where it comes in: a node takes as many commands as it
 * finishes in `INTAKE_MS`, and while these are under way its clients' input stays unread. TCP then slows the clients down.
 *
 * A command is under way from when it is taken until its reply may go out; one that was forwarded, until it is answered.
 */

/** What is under way is to be done in so many ms: well within the time that a forwarded command has to be begun. */
const INTAKE_MS = 80;
/** So many commands are taken however slow it goes: where nodes are far apart, few are finished in that time. */
const MIN_WINDOW = 512;
const MAX_WINDOW = 32_768;
/** Input goes on when so much of the window is free: at each command it would cost more than it gains. */
const FREE_SHARE = 0.25;
/** The rate is looked at this often, in ms, and an old look counts half as much as a new one. */
const LOOK_MS = 100;

export class Intake {
  /** Commands that clients of this node have sent, as far as they have been taken. */
  taken = 0;
  /** Of these, the replies of the first so many have gone out or wait for another node's answer. */
  released = 0;
  /** How often input has had to wait. */
  held = 0;
  private window = MIN_WINDOW;
  private perMs = 0;
  private lookedAt = 0;
  private releasedThen = 0;
  private readonly forwarded: () => number;

  /** @param forwarded commands that other nodes have not answered yet */
  constructor(forwarded: () => number) {
    this.forwarded = forwarded;
  }

  /** Commands under way. */
  get underWay(): number {
    return this.taken - this.released + this.forwarded();
  }

  /** Nothing more is to be taken. */
  get isFull(): boolean {
    return this.underWay >= this.window;
  }

  /** There is room enough to go on. */
  get hasRoom(): boolean {
    return this.underWay <= this.window * (1 - FREE_SHARE);
  }

  /** Looks at the rate. Called every few ms. */
  sweep(now: number): void {
    const ms = now - this.lookedAt;
    if (ms < LOOK_MS) return;
    this.perMs = (this.perMs + (2 * (this.released - this.releasedThen)) / ms) / 3;
    this.lookedAt = now;
    this.releasedThen = this.released;
    this.window = Math.min(MAX_WINDOW, Math.max(MIN_WINDOW, Math.floor(this.perMs * INTAKE_MS)));
  }
}
