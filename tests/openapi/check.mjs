// Validate an OpenAPI document on standard input; exit 1 with the faults on standard error.
import { text } from "node:stream/consumers";
import { Validator } from "@seriousme/openapi-schema-validator";

// A pipe that is not filled yet makes a synchronous read fail.
const result = await new Validator().validate(JSON.parse(await text(process.stdin)));
if (!result.valid) {
    console.error(JSON.stringify(result.errors, null, 1));
    process.exit(1);
}
