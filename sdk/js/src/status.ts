import type { RollcallError } from "./errors.js";
import type { KickedInstance } from "./messages.js";

/** What the client is doing. */
export type Status =
  | "idle" // run() was not called yet
  | "connecting" // opening a link and logging in
  | "online" // logged in
  | "waiting" // for the next try
  | "ended"; // run() is about to settle

/** What `onStatus` is told. */
export type StatusChange =
  | { readonly status: "connecting" | "online"; readonly url: string }
  | {
      readonly status: "waiting";
      /** Why the last try or link ended. */
      readonly error: Error;
      /** For how long. */
      readonly waitMS: number;
    }
  | {
      readonly status: "ended";
      /** What `run()` rejects with; undefined after a logout. */
      readonly error?: unknown;
    };

/** A login that the server let in. */
export interface Login {
  readonly instID: number;
  readonly deviceID: string;
  /** For `Options.ticket` of a later run; "" if the server gave none. */
  readonly ticket: string;
  readonly serverTime: Date;
  readonly heartbeatIntervalMS: number;
  /** After this much silence the server gives the link up. */
  readonly silenceTimeoutMS: number;
  /** Pushed out by this login, oldest login first. */
  readonly kicked: readonly KickedInstance[];
  /** This login was a resume. */
  readonly resumed: boolean;
  /** A resume found its instance again: same instID as before. */
  readonly takenBack: boolean;
}

/** How a try or a link ended. */
export interface Ending {
  readonly error?: RollcallError | Error;
  /** The run ends with it. */
  readonly final?: boolean;
  /** The server asked for. */
  readonly retryAfterMS?: number;
  /** How long the link was logged in. */
  readonly heldMS?: number;
  /** The server named another: no back-off. */
  readonly follow?: boolean;
  /** Where to, with a redirect. */
  readonly redirect?: string;
  /** Nothing that is our server answered at this address. */
  readonly unreachable?: boolean;
}
