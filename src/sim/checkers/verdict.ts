/** What a checker has to say. */
export interface Verdict {
  checker: string;
  /** How much it looked at: a checker that judged nothing proves nothing. */
  judged: number;
  /** Cases that it could not decide within its limit. */
  undecided: number;
  problems: string[];
}

export function verdict(checker: string): Verdict {
  return { checker, judged: 0, undecided: 0, problems: [] };
}
